"""Backends that break their contract, each in one way. `BROKEN` says which code the kit must report of each."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

import kit_sound as sound
from pydantic import BaseModel, ConfigDict, Field

from tunewright.data.mask import prompt_ids
from tunewright.errors import WorkFailed
from tunewright.parts import Cap, Options, To
from tunewright.parts.base import Unkeyed
from tunewright.parts.engine import limits
from tunewright.parts.evaluator import Evaluator, Graded, OfSums, mean_of
from tunewright.parts.exporter import ExporterOptions, Form
from tunewright.parts.gate import Verdict
from tunewright.parts.model_source import Pin
from tunewright.parts.prompt_format import Example
from tunewright.parts.trainer import Reference

COUNT = itertools.count()


class Case(NamedTuple):
    backend: Any
    code: str
    options: dict[str, Any]


BROKEN: list[Case] = []


def breaks(code, **options):
    def note(backend):
        BROKEN.append(Case(backend, code, options))
        return backend

    return note


# --- the class and its options


@breaks("bad-contract")
class NoGate:
    part, kind = "gate", "sound"


@breaks("bad-contract")
class NoJudge(sound.Gate):
    kind, Options = "sound", sound.BoundOptions

    def metrics(self):
        return frozenset()


@breaks("bad-contract")
class NoKindOfRows(sound.PromptFormat):
    kind, Options = "sound", sound.FormatOptions
    columns = prompt_columns = prompt = example = sound.Format.prompt


@breaks("bad-contract")
class ReadsWhatIsNotThere(sound.Bound):
    reads = frozenset({"metric", "at_least", "at_lest"})


@breaks("bad-contract")
class VariesWhatIsNotThere(sound.Bound):
    vary = {"at_lest": (0.1, 0.9)}


@breaks("bad-contract")
class LibrariesAreText(sound.Bound):
    libraries = "numpy"


class UndescribedOptions(sound.BoundOptions):
    at_least: float = 0.5


@breaks("bad-contract")
class Undescribed(sound.Bound):
    Options = UndescribedOptions


class LooseOptions(Options):
    kind: str = "sound"


@breaks("bad-contract")
class OptionsOfNoGate(sound.Bound):
    Options, reads = LooseOptions, frozenset()

    def metrics(self):
        return frozenset({"quiz.right"})

    def judge(self, evidence):
        return Verdict("a score is there", bool(evidence.get("quiz.right")) and evidence["quiz.right"].tuned > 0.4, "x")


@breaks("bad-contract")
class NeedsWhatIsNoPart(sound.Bound):
    def needs(self):
        return ["quantizer"]


@breaks("bad-contract")
class OffersWords(sound.Quantizer):
    def offers(self):
        return frozenset({"trainable-ish"})


class Finding(NamedTuple):
    field: str


@breaks("bad-contract")
class FindsElsewhere(sound.Bound):
    def check(self, facts):
        yield Finding("at_lest")


@breaks("bad-contract")
class GivesNoVerdict(sound.Bound):
    def judge(self, evidence):
        return SimpleNamespace(**vars(super().judge(evidence)))


class BrokenInThreeWays(GivesNoVerdict):
    """Not in the table: all three must be told at once."""

    reads = frozenset({"metric", "at_least", "at_lest"})
    libraries = "numpy"


@breaks("badly-registered")
class OtherKind(sound.Bound):
    kind = "another"


class OpenOptions(sound.BoundOptions):
    model_config = ConfigDict(extra="ignore")


@breaks("unknown-keys-accepted")
class TakesAnyKey(sound.Bound):
    Options = OpenOptions


class ThawedOptions(sound.BoundOptions):
    model_config = ConfigDict(frozen=False)


@breaks("unknown-keys-accepted")
class NotFrozen(sound.Bound):
    Options = ThawedOptions


@breaks("bad-contract")
class Nowhere(sound.Bound):
    __module__ = "kit_that_is_nowhere"


@breaks("heavy-import")
class HeavyCheck(sound.Bound):
    def check(self, facts):
        import numpy  # noqa: F401

        return ()


@breaks("options-refused", at_least="half")
class OddOptions(sound.Bound):
    pass


@breaks("sample-refused")
class RefusesAll(sound.Format):
    def example(self, fields):
        raise WorkFailed("not today")


# --- fields


@breaks("field-reaches-nothing")
class BoundIgnored(sound.Bound):
    def judge(self, evidence):
        score = evidence.get(self.options.metric)
        return Verdict("a bound", score is not None and score.tuned >= 0.5, f"{score}")


class TwiceOptions(sound.TunerOptions):
    rate: Annotated[float, To("rate"), Field(description="The same again.")] = 1.0


@breaks("field-reaches-nothing")
class OneArgumentTwice(sound.Tuner):
    Options = TwiceOptions


class RankOptions(Options):
    kind: str = "sound"
    r: Annotated[int, To("r"), Field(description="Rank.")] = 4


@breaks("field-reaches-nothing")
class NeverPassesItsArguments(sound.Adapter):
    Options = RankOptions


@breaks("field-reaches-nothing")
class PoliteByMistake(sound.Format):
    def prompt(self, fields):
        return [{"role": "user", "content": self.value(fields, "text")}]


class IdleOptions(sound.BoundOptions):
    tolerance: Annotated[float, Field(description="Read by nobody.")] = 0.1


@breaks("idle-field")
class Idle(sound.Bound):
    Options = IdleOptions


class PatternOptions(sound.BoundOptions):
    metric: Annotated[str, Field(pattern=r"^[a-z]+\.[a-z]+$", description="Which score.")] = "quiz.right"


@breaks("no-values-to-vary")
class NothingToVary(sound.Bound):
    Options = PatternOptions


@breaks("no-values-to-vary")
class VariesByNonsense(sound.Bound):
    vary = {"at_least": (0.1, "much")}


# --- exceptions


@breaks("foreign-exception")
class KeyErrorOnNoEvidence(sound.Bound):
    def judge(self, evidence):
        score = evidence[self.options.metric]
        return Verdict("a bound", score.tuned >= self.options.at_least, f"{score}")


@breaks("foreign-exception")
class KeyErrorOnRow(sound.Format):
    def value(self, fields, column):
        return str(fields[column])


@breaks("foreign-exception")
class NoSuchFile(sound.Rows):
    @property
    def file(self):
        return self.options.path.path


@breaks("foreign-exception")
class GarbageRows(sound.Rows):
    def read(self, most=-1):
        with self.file.open("rb", buffering=0) as file:
            data = file.read(most)
        return [line.partition(";") for line in data.decode().splitlines()]


@breaks("foreign-exception")
class DamagedAdapter(sound.Adapter):
    def attach(self, model, saved):
        json.loads((saved / "adapter_config.json").read_text())
        return super().attach(model, saved)


@breaks("foreign-exception")
class NoModel(sound.Loader):
    def tokenizer(self, path):
        assert path.is_dir()
        return super().tokenizer(path)


@breaks("foreign-exception")
class Exits(sound.Quiz):
    def grade(self, item, answer):
        sys.exit("enough")


@breaks("foreign-exception")
class FailsWhenMade(sound.Bound):
    def __init__(self, options):
        raise RuntimeError("no key")


@breaks("foreign-exception")
class CrashesInCheck(sound.Bound):
    def check(self, facts):
        raise RuntimeError("unfinished")


@breaks("foreign-exception")
class DividesByWords(sound.Quiz):
    def grade(self, item, answer):
        found = super().grade(item, answer)
        return found if answer.ids else {**found, "right": found["right"] / len(answer.text.split())}


# --- writing


@breaks("writes-outside")
class WritesBesideItsInput(sound.Rows):
    def rows(self):
        self.file.with_suffix(".index").write_text("0")
        return super().rows()


@breaks("writes-outside")
class LeavesATemporaryFile(sound.Quiz):
    def grade(self, item, answer):
        with tempfile.NamedTemporaryFile(prefix="tunewright-kit-test-", delete=False) as file:
            LEFT.append(Path(file.name))
        return super().grade(item, answer)


@breaks("writes-outside")
class LeavesATemporaryFolder(sound.Quiz):
    def summaries(self):
        LEFT.append(Path(tempfile.mkdtemp(prefix="tunewright-kit-test-")))
        return super().summaries()


@breaks("writes-outside")
class WritesByAnotherProcess(sound.Copy):
    def export(self, trained, out):
        subprocess.run(["sh", "-c", f"printf ' ' >> '{trained.base / 'config.json'}'"], check=True)
        return super().export(trained, out)


@breaks("writes-outside")
class WritesInTheBase(sound.Loader):
    def model(self, path, quantizer, dtype, use):
        model = super().model(path, quantizer, dtype, use)
        os.utime(path / "config.json")
        return model


@breaks("writes-outside")
class RenamesItsInput(sound.Copy):
    def export(self, trained, out):
        first = trained.saved / "adapter_config.json"
        if first.exists():
            first.rename(trained.saved / "config.json")
            (trained.saved / "config.json").rename(first)
        return super().export(trained, out)


@breaks("writes-outside")
class RemovesAndMakesAgain(sound.Copy):
    def export(self, trained, out):
        form = super().export(trained, out)
        path = trained.saved / "adapter_config.json"
        if path.exists():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        return form


@breaks("writes-outside")
class WritesOnBadInput(sound.Adapter):
    def attach(self, model, saved):
        try:
            return super().attach(model, saved)
        except Exception:
            (saved / "damaged").touch()
            raise


LEFT: list[Path] = []


# --- what a process shares


class Leaves(sound.Quiz):
    def items(self, data):
        self.leave()
        return super().items(data)


@breaks("state-left-behind")
class LeavesEnvironment(Leaves):
    def leave(self):
        os.environ["KIT_TEST_LEFT"] = "1"


@breaks("state-left-behind")
class LeavesFolder(Leaves):
    def leave(self):
        os.chdir("/")


@breaks("state-left-behind")
class LeavesPath(Leaves):
    def leave(self):
        sys.path.append("/kit-test")


@breaks("state-left-behind")
class LeavesSignal(Leaves):
    def leave(self):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@breaks("state-left-behind")
class LeavesHandler(Leaves):
    def leave(self):
        logging.root.addHandler(logging.NullHandler())


@breaks("state-left-behind")
class LeavesLevel(Leaves):
    def leave(self):
        logging.disable(logging.CRITICAL)


@breaks("state-left-behind")
class LeavesThread(Leaves):
    def leave(self):
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()


@breaks("state-left-behind")
class LeavesFilter(Leaves):
    def leave(self):
        warnings.simplefilter("ignore")


@breaks("state-left-behind")
class LeavesUmask(Leaves):
    def leave(self):
        os.umask(0o077)


@breaks("state-left-behind")
class LeavesStream(Leaves):
    def leave(self):
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


@breaks("state-left-behind")
class Draws(Leaves):
    def leave(self):
        random.random()


# --- determinism


@breaks("non-deterministic")
class GradesByCount(sound.Quiz):
    def grade(self, item, answer):
        return {"right": float(next(COUNT)), "empty": 0.0 if self.options.strict else 1.0}


@breaks("non-deterministic")
class NewIds(sound.Tuner):
    def train(self, job):
        return replace(super().train(job), row_order=f"{next(COUNT)}")


# --- sources of models


@breaks("pin-not-plain")
class PinsNumbers(sound.Source):
    def pin(self):
        return Pin({"sha256": "0" * 64, "size": 7})

    def fetch(self, pin, out):
        if pin.values["sha256"] != "0" * 64:
            raise sound.Refused("another")
        sound.fakes.FakeSource.fetch(self, sound.fakes.FakeSource.pin(self), out)


class CountingPin(sound.Source):
    def fetch(self, pin, out):
        if "commit" not in pin.values or not pin.values["commit"].isdigit():
            raise sound.Refused("another")
        sound.fakes.FakeSource.fetch(self, sound.fakes.FakeSource.pin(self), out)


@breaks("pin-changes")
class PinsTheLatest(CountingPin):
    asked = 0

    def pin(self):
        self.asked += 1
        return Pin({"commit": "1"}) if self.asked == 1 else Pin({"commit": "x2"})


@breaks("pin-ignored")
class IgnoresThePin(sound.Source):
    def fetch(self, pin, out):
        super().fetch(self.pin(), out)


@breaks("fetch-differs")
class FetchesTheTime(sound.Source):
    fetched = 0

    def fetch(self, pin, out):
        self.fetched += 1
        super().fetch(pin, out)
        (out / "fetched").write_text(f"{self.fetched}")


@breaks("layout-incomplete")
class FetchesNoTokenizer(sound.Source):
    def fetch(self, pin, out):
        super().fetch(pin, out)
        (out / "tokenizer.json").unlink()


@breaks("config-differs")
class KnowsAnotherConfig(sound.Source):
    def config(self):
        return {"model_type": "llama"}


@breaks("bad-contract")
class HasNoName(sound.Source):
    name = ""


@breaks("bad-contract")
class HasNoLicense(sound.Source):
    license = None


# --- loaders and quantizers


@breaks("bad-contract")
class HasNoDevice(sound.Loader):
    def device(self):
        return ""


class Plain(sound.fakes.FakeTokenizer):
    """Renders, and tells nobody by what."""

    def __init__(self):
        super().__init__(template=None)

    def render(self, messages, *, generation_prompt):
        return sound.fakes.FakeTokenizer().render(messages, generation_prompt=generation_prompt)


@breaks("bad-contract")
class TokenizerHasNoTemplate(sound.Loader):
    def tokenizer(self, path):
        super().tokenizer(path)
        return Plain()


class Forgetful(sound.fakes.FakeTokenizer):
    def decode(self, ids, *, special):
        return super().decode(ids, special=special).strip()


@breaks("tokenizer-unfaithful")
class TokenizerForgets(sound.Loader):
    def tokenizer(self, path):
        super().tokenizer(path)
        return Forgetful()


class Endless(sound.fakes.FakeTokenizer):
    stops = frozenset({0})


@breaks("tokenizer-unfaithful")
class TokenizerNeverStops(sound.Loader):
    def tokenizer(self, path):
        super().tokenizer(path)
        return Endless()


class Divided(sound.fakes.FakeTokenizer):
    def render(self, messages, *, generation_prompt):
        return super().render(messages, generation_prompt=generation_prompt) + ("?" if generation_prompt else "")


@breaks("tokenizer-unfaithful")
class TokenizerAsksOtherwise(sound.Loader):
    def tokenizer(self, path):
        super().tokenizer(path)
        return Divided()


@breaks("load-differs")
class LoadsAnother(sound.Loader):
    def model(self, path, quantizer, dtype, use):
        model = super().model(path, quantizer, dtype, use)
        model.table = {"parcel": {use: 1.0}}
        return model


class Parameter:
    def __init__(self, gradient, floats=True):
        self.requires_grad, self.is_floating_point = gradient, lambda: floats


@breaks("capability-lies")
class KeepsGradients(sound.Loader):
    def model(self, path, quantizer, dtype, use):
        model = super().model(path, quantizer, dtype, use)
        model.named_parameters = lambda: [("weight", Parameter(True))]
        return model


class Deaf(sound.Quantizer):
    gradient: Any = []

    def prepare(self, model, use):
        model.gradient = self.gradient


@breaks("capability-lies")
class NoGradient(Deaf):
    pass


@breaks("capability-lies")
class NaNGradient(Deaf):
    gradient = [0.1, float("nan")]


@breaks("capability-lies")
class ZeroGradient(Deaf):
    gradient = [0.0, 0.0]


@breaks("capability-lies")
class GradientAfterAsking(sound.Quantizer):
    """The trap of bitsandbytes: the first question in eval mode repacks the weights."""

    def prepare(self, model, use):
        model.gradient = [0.5, 0.25]
        answer = model.answer

        def asked(prompt):
            model.gradient = [0.5, -0.25]
            return answer(prompt)

        model.answer = asked


@breaks("bad-contract")
class DescribesObjects(sound.Quantizer):
    def describe(self):
        return {"dtype": object}


# --- adapters and trainers


@breaks("save-differs")
class SavesTheTime(sound.Adapter):
    saves = 0

    def save(self, model, out):
        self.saves += 1
        super().save(model, out)
        (out / "saved").write_text(f"{self.saves}")


@breaks("save-changes-model")
class SaveEmpties(sound.Adapter):
    emptied = False

    def digest(self, model):
        return super().digest(model) + str(getattr(model, "emptied", ""))

    def save(self, model, out):
        super().save(model, out)
        model.emptied = True

    def attach(self, model, saved):
        model = super().attach(model, saved)
        model.emptied = ""
        return model


class Half(sound.Adapter):
    def save(self, model, out):
        whole, model.table = model.table, dict(sorted(model.table.items())[:1])
        super().save(model, out)
        model.table = whole


@breaks("attach-differs")
class SavesHalf(Half):
    def wrap(self, model, parent):
        model = super().wrap(model, parent)
        if parent is not None:
            sound.teach(model)
        return model


@breaks("attach-differs")
class DigestsTheLoading(sound.Adapter):
    def digest(self, model):
        return super().digest(model) + str(getattr(model, "loaded", ""))

    def attach(self, model, saved):
        model = super().attach(model, saved)
        model.loaded = True
        return model

    def wrap(self, model, parent):
        model = super().wrap(model, parent)
        model.loaded = ""
        return model


@breaks("attach-differs")
class AnswersOtherwise(sound.Adapter):
    def attach(self, model, saved):
        model = super().attach(model, saved)
        model.answer = lambda prompt: "delivery"
        return model


@breaks("merge-differs")
class MergesNothing(sound.Adapter):
    def merge(self, base, saved, out, dtype):
        (out / "config.json").write_text('{"model_type": "fake"}')
        (out / "model.safetensors").write_bytes((base.path / "model.safetensors").read_bytes())


@breaks("merge-differs")
class DatesWhatItMerges(sound.Adapter):
    merges = 0

    def merge(self, base, saved, out, dtype):
        super().merge(base, saved, out, dtype)
        type(self).merges += 1
        (out / "README").write_text(f"merged {self.merges}")


@breaks("parent-ignored")
class ForgetsTheParent(sound.Adapter):
    def wrap(self, model, parent):
        return super().wrap(model, None)


@breaks("digest-blind")
class DigestsTheName(sound.Adapter):
    def digest(self, model):
        return "0" * 64


@breaks("count-wrong")
class CountsTooMany(sound.Adapter):
    def count(self, model):
        return 7, 3


@breaks("capability-lies")
class BeginsElsewhere(sound.Adapter):
    def wrap(self, model, parent):
        model = super().wrap(model, parent)
        if parent is None:
            model.table = {"parcel": {"billing": 1.0}}
        return model


@breaks("capability-lies")
class TrainsAll(sound.Adapter):
    def count(self, model):
        return 7, 7


@breaks("capability-lies")
class DoraForVllm(sound.Adapter):
    def save(self, model, out):
        super().save(model, out)
        config = {"peft_type": "LORA", "use_dora": True}
        (out / "adapter_config.json").write_text(json.dumps(config))


@breaks("capability-lies")
class NoConfigForVllm(sound.Adapter):
    def save(self, model, out):
        super().save(model, out)
        (out / "adapter_config.json").unlink()

    def attach(self, model, saved):
        (saved / "adapter_config.json").exists()
        try:
            return sound.fakes.FakeAdapter.attach(self, model, saved)
        except (OSError, ValueError) as error:
            raise sound.Refused("damaged") from error


@breaks("trains-nothing")
class TrainsACopy(sound.Tuner):
    def train(self, job):
        model = sound.fakes.Model()
        model.table = {}
        return super().train(job._replace(model=model))


@breaks("reference-differs")
class HidesAnOption(sound.Held):
    def refers(self, seed):
        return {}


@breaks("reference-differs")
class DrawsItsReference(sound.Held):
    def said(self, job, row):
        return {"length": super().said(job, row)["length"] + job.seed}


@breaks("reference-differs")
class AsksOtherwiseInTraining(sound.Held):
    def train(self, job):
        if job.reference is None:
            asked = self.reference(job).train
            job = job._replace(reference=Reference([{"length": one["length"] + 1.0} for one in asked]))
        return super().train(job)


@breaks("reference-ignored")
class AlwaysAsksItself(sound.Held):
    def train(self, job):
        return super().train(job._replace(reference=None))


@breaks("bad-contract")
class RefersToMoreRows(sound.Held):
    def reference(self, job):
        found = super().reference(job).train
        return Reference([*found, *found[:1]])


@breaks("resume-differs")
class BeginsAnew(sound.Tuner):
    """Counts on from the checkpoint, with an empty table."""

    def take_up(self, job):
        return job.resume.step


@breaks("resume-differs")
class TrainsTwice(sound.Tuner):
    """Takes the table up, and trains on every row again."""

    def take_up(self, job):
        super().take_up(job)
        return 0


@breaks("outcome-untrue")
class StopsWithoutACheckpoint(sound.Tuner):
    def commit(self, job, number):
        pass


class Told(sound.Tuner):
    """What is told of a training is changed."""

    def told(self, outcome):
        return outcome

    def event(self, event):
        return event

    def train(self, job):
        return self.told(super().train(job._replace(emit=lambda event: job.emit(self.event(event)))))


@breaks("outcome-untrue")
class OneStepMore(Told):
    def told(self, outcome):
        return replace(outcome, steps=outcome.steps + 1)


@breaks("outcome-untrue")
class CountsOneToken(Told):
    def told(self, outcome):
        return replace(outcome, tokens=1)


@breaks("outcome-untrue")
class CountsAllAsSupervised(Told):
    def told(self, outcome):
        return replace(outcome, supervised=outcome.tokens)


@breaks("outcome-untrue")
class LossIsNaN(Told):
    def told(self, outcome):
        return replace(outcome, losses=((1, float("nan")),))


@breaks("outcome-untrue")
class CountsFromZero(Told):
    def event(self, event):
        return {**event, "optimizer_step": event["optimizer_step"] - 1}


@breaks("event-incomplete")
class TellsNoLoss(Told):
    def event(self, event):
        return {name: value for name, value in event.items() if name != "loss"}


@breaks("argument-lost")
class PassesAnotherRate(Told):
    def told(self, outcome):
        return replace(outcome, observed={"rate": 0.125})


@breaks("argument-lost")
class PassesNothing(Told):
    def told(self, outcome):
        return replace(outcome, observed={})


# --- engines and exporters


class Asking(sound.Engine):
    def ask(self, complete, prompts, limit, progress, together):
        raise NotImplementedError

    @contextmanager
    def open(self, served):
        with super().open(served) as subject:
            complete = subject.complete
            subject.complete = lambda prompts, limit, progress=None, *, together=True: self.ask(
                complete, prompts, limit, progress, together
            )
            yield subject


class Changed(Asking):
    def change(self, answers, together):
        return answers

    def identity(self, name):
        return name

    def ask(self, complete, prompts, limit, progress, together):
        return self.change(complete(prompts, limit, progress, together=together), together)

    @contextmanager
    def open(self, served):
        with super().open(served) as subject:
            subject.identity = self.identity(subject.identity)
            yield subject


@breaks("identity-untrue")
class SaysBase(Changed):
    def identity(self, name):
        return "base"


@breaks("batching-changes-answers")
class SwapsABatch(Changed):
    def change(self, answers, together):
        return [answers[1], answers[0], *answers[2:]] if together else answers

    @contextmanager
    def open(self, served):
        """Only what must differ differs: the prompts stay the prompts."""
        with super().open(served) as subject:
            swapped = subject.complete

            def complete(prompts, limit, progress=None, *, together=True):
                alike = isinstance(limit, int)  # else a swapped limit shows as well
                found = swapped(prompts, limit, progress, together=together and alike)
                prompted = [prompt_ids(prompt, subject.tokenizer) for prompt in prompts]
                return [replace(one, prompt_ids=ids) for one, ids in zip(found, prompted, strict=True)]

            subject.complete = complete
            yield subject


@breaks("limit-ignored")
class SaysMore(Changed):
    def change(self, answers, together):
        more = [ord("!")] * 20
        return [
            replace(one, ids=[*more, *one.ids], text="!" * 20 + one.text) for one in answers
        ]  # fmt: skip


@breaks("limit-ignored")
class OneLimitForAll(Asking):
    def ask(self, complete, prompts, limit, progress, together):
        return complete(prompts, max(limits(limit, len(prompts))), progress, together=together)


@breaks("stopped-untrue")
class AlwaysEnds(Changed):
    def change(self, answers, together):
        return [replace(one, stopped="terminator") for one in answers]


@breaks("text-differs")
class StripsText(Changed):
    def change(self, answers, together):
        return [replace(one, text=one.text.upper()) for one in answers]


@breaks("text-differs")
class TellsNoPrompt(Changed):
    def change(self, answers, together):
        return [replace(one, prompt_ids=[]) for one in answers]


@breaks("progress-untrue")
class NoProgress(Asking):
    def ask(self, complete, prompts, limit, progress, together):
        return complete(prompts, limit)


class Rescored(sound.Engine):
    def rescore(self, rows, together):
        raise NotImplementedError

    @contextmanager
    def open(self, served):
        with super().open(served) as subject:
            self.plain = subject.score

            def score(rows, progress=None, *, together=True):
                self.plain(rows, progress)  # which counts
                return self.rescore(rows, together)

            subject.score = score
            yield subject


@breaks("bad-contract")
class ScoresTheTokenBefore(Rescored):
    def rescore(self, rows, together):
        return [[-1.0, *one[:-1]] if one else one for one in self.plain(rows)]


@breaks("bad-contract")
class ScoresThePromptToo(Rescored):
    def rescore(self, rows, together):
        return [[-1.0] * len(row.prompt) + one for row, one in zip(rows, self.plain(rows), strict=True)]


@breaks("bad-contract")
class GivesProbabilities(Rescored):
    def rescore(self, rows, together):
        return [[math.exp(value) for value in one] for one in self.plain(rows)]


@breaks("bad-contract")
class ScoresTheUnlikely(Rescored):
    def rescore(self, rows, together):
        return [[math.log(1 - math.exp(value)) for value in one] for one in self.plain(rows)]


@breaks("batching-changes-answers")
class ScoresByTheBatch(Rescored):
    def rescore(self, rows, together):
        return [[value - 0.1 * together for value in one] for one in self.plain(rows)]


@breaks("not-finite")
class ScoresInfinity(Rescored):
    def rescore(self, rows, together):
        return [[value if value > -1 else -math.inf for value in one] for one in self.plain(rows)]


@breaks("bad-contract")
class CannotScore(sound.Engine):
    @contextmanager
    def open(self, served):
        with super().open(served) as subject:
            subject.score = None
            yield subject


@breaks("adapters-mixed")
class BaseRowsByTheLastAdapter(sound.Engine):
    """As an index of -1, "no adapter", is read by a list: the base's prompts are answered by the last adapter."""

    @contextmanager
    def open_several(self, served, adapters):
        with super().open_several(served, adapters) as several:
            complete, (*_, last) = several.complete, adapters
            several.complete = lambda asked, limit: complete(
                [one._replace(adapter=one.adapter or last) for one in asked], limit
            )
            yield several


@breaks("unknown-adapter-answers")
class BaseForUnknownAdapters(sound.Engine):
    @contextmanager
    def open_several(self, served, adapters):
        with super().open_several(served, adapters) as several:
            complete = several.complete
            several.complete = lambda asked, limit: complete(
                [one if one.adapter in adapters else one._replace(adapter=None) for one in asked], limit
            )
            yield several


@breaks("identity-untrue")
class AnswersAsTheBase(sound.Engine):
    """It says which weights were put on, and never put them on."""

    @contextmanager
    def open(self, served):
        with super().open(served) as tuned, super().open(served._replace(method=None, trained=None)) as subject:
            subject.identity = tuned.identity
            yield subject


@breaks("identity-untrue")
class AnswersAsTheBaseAndScoresNothing(AnswersAsTheBase):
    def offers(self):
        return frozenset()


@breaks("capability-lies")
class ClaimsToTellTheLikeliest(sound.Engine):
    def offers(self):
        return frozenset({Cap.SCORES, Cap.LIKELIEST})


@breaks("identity-untrue")
class ProvesWhatItNeverSaw(sound.Engine):
    sees_weights = False


class HurriedOptions(sound.Bare):
    hurry: Annotated[bool, Unkeyed(), Field(description="Answers sooner.")] = False


@breaks("unkeyed-changes-results")
class AnswersLessInAHurry(Asking):
    Options, reads = HurriedOptions, frozenset({"hurry"})

    def ask(self, complete, prompts, limit, progress, together):
        if self.options.hurry:
            limit = [min(most, 3) for most in limits(limit, len(prompts))]
        return complete(prompts, limit, progress, together=together)


@breaks("variant-unusable")
class OffersWhatItDoesNotTake(sound.Copy):
    def variants(self, facts):
        return [{"bits": 8}]


@breaks("variant-unusable")
class RenamesItself(sound.Copy):
    def variants(self, facts):
        return [{"name": "other"}]


class BitsOptions(ExporterOptions):
    kind: str = "sound"
    bits: Annotated[Literal[4, 8], Field(description="Written beside it.")] = 4


class Bits(sound.Copy):
    Options, reads = BitsOptions, frozenset({"bits"})

    def export(self, trained, out):
        (out / "bits").write_text(f"{self.options.bits}")
        return super().export(trained, out)


@breaks("variant-unusable")
class OffersAValueThatItDoesNotTake(Bits):
    def variants(self, facts):
        return [{"bits": 3}]


@breaks("variant-unusable")
class OffersOthersEachTime(Bits):
    asked = 0

    def variants(self, facts):
        self.asked += 1
        return [{"bits": 8}] if self.asked % 2 else []


@breaks("export-differs")
class ExportsTheTime(sound.Copy):
    exports = 0

    def export(self, trained, out):
        self.exports += 1
        form = super().export(trained, out)
        (out / "when").write_text(f"{self.exports}")
        return form


@breaks("form-untrue")
class SaysItIsAModel(sound.Copy):
    def export(self, trained, out):
        return Form(super().export(trained, out).engine, attach=False)


@breaks("form-untrue")
class ExportsAnother(sound.Copy):
    def export(self, trained, out):
        form = super().export(trained, out)
        sound.fakes.write_safetensors(out / "adapter_model.safetensors", "table", b'{"a": {"b": 1.0}}')
        return form


@breaks("bad-contract")
class GivesNoForm(sound.Copy):
    def export(self, trained, out):
        super().export(trained, out)


@breaks("bad-contract")
class ExportsNothing(sound.Copy):
    def export(self, trained, out):
        return Form(trained.engine, attach=True)


# --- rows and formats


@breaks("head-differs")
class HeadOfOtherColumns(sound.Rows):
    def head(self):
        return super().head()._replace(columns=(self.options.column,))


@breaks("head-differs")
class HeadOfOtherRows(sound.Rows):
    def head(self):
        head = super().head()
        return head._replace(rows=head.rows[::-1])


@breaks("head-reads-too-much")
class HeadOfAll(sound.Rows):
    def head(self):
        head = super().head()
        self.read()
        return head


@breaks("rows-not-told-apart")
class OneOrigin(sound.Rows):
    def rows(self):
        for row in super().rows():
            yield replace(row, origin=self.file.name)


@breaks("rows-not-told-apart")
class OneId(sound.Rows):
    def rows(self):
        for row in super().rows():
            yield replace(row, id="row")


@breaks("rows-change")
class GivesRowsOnce(sound.Rows):
    given = False

    def rows(self):
        if not self.given:
            yield from super().rows()
        self.given = True


@breaks("digest-of-more-than-content")
class DigestsTheDate(sound.Rows):
    def digest(self):
        return f"{super().digest()} {self.file.stat().st_mtime}"


@breaks("digest-misses-content")
class DigestsItsName(sound.Rows):
    def digest(self):
        return self.file.name


@breaks("columns-not-declared")
class ReadsAnotherColumn(sound.Format):
    def columns(self):
        return {"text": "kind"}

    def example(self, fields):
        answer = fields.get(self.options.answer) or "nothing"
        return Example(self.prompt(fields), [{"role": "assistant", "content": answer}])


@breaks("columns-not-declared")
class AsksWithTheAnswer(sound.Format):
    def prompt(self, fields):
        self.value(fields, self.options.answer)
        return super().prompt(fields)


@breaks("columns-not-declared")
class NamesNoColumn(sound.Format):
    def prompt_columns(self):
        return frozenset({"text", "context"})


@breaks("prompt-differs")
class TrainsOnOtherQuestions(sound.Format):
    def example(self, fields):
        found = super().example(fields)
        return found._replace(prompt=[{"role": "system", "content": "Train."}, *found.prompt])


@breaks("bad-contract")
class MakesAnything(sound.Format):
    makes = "anything"


@breaks("bad-contract")
class SpeaksAsAnyone(sound.Format):
    def prompt(self, fields):
        return [{**message, "role": "me"} for message in super().prompt(fields)]


class PoliteOptions(Options):
    kind: str = "sound"
    polite: Annotated[bool, Field(description="Says please.")] = False


@breaks("bad-contract")
class HasNoAnswer(sound.Format):
    Options, reads = PoliteOptions, frozenset({"polite"})

    def columns(self):
        return {"text": "kind"}

    def example(self, fields):
        return Example(self.prompt(fields), [])


@breaks("bad-contract")
class ColumnsOfNoField(sound.Format):
    def columns(self):
        return {**super().columns(), "text": "question"}


# --- evaluators and gates


@breaks("items-not-told-apart")
class OneItem(sound.Quiz):
    def items(self, data):
        return [replace(item, id="item") for item in super().items(data)]


@breaks("items-depend-on-order")
class NumbersItems(sound.Quiz):
    def items(self, data):
        return [replace(item, id=f"{n} {item.id}") for n, item in enumerate(super().items(data))]


@breaks("items-depend-on-order")
class LastCounts(sound.Quiz):
    def summaries(self):
        return {**super().summaries(), "right": lambda graded: graded[0].grades["right"]}


@breaks("bad-contract")
class GradesNothing(sound.Quiz):
    def grade(self, item, answer):
        return None


@breaks("bad-contract")
class SumsMoreThanItsPart(sound.Quiz):
    def summaries(self):
        def terms(graded):
            import numpy as np

            return np.array([[one.grades["right"], 1.0 / len(graded)] for one in graded])

        return {**super().summaries(), "right": OfSums(terms, lambda sums: sums[:, 0] / sums[:, 1])}


@breaks("metrics-differ")
class BoundsWhatItDoesNotMake(sound.Quiz):
    def largest(self):
        return {"accuracy": 1.0}


@breaks("bad-contract")
class GradesBeyondItsBound(sound.Quiz):
    def largest(self):
        return {"right": 0.5}


@breaks("metrics-differ")
class SummarizesMore(sound.Quiz):
    def summaries(self):
        return {**super().summaries(), "f1": sound.mean_of("f1")}


@breaks("metrics-differ")
class GradesMore(sound.Quiz):
    def grade(self, item, answer):
        return {**super().grade(item, answer), "length": float(len(answer.text))}


@breaks("metrics-differ")
class GradesSomeAnswersMore(sound.Quiz):
    def grade(self, item, answer):
        more = {"length": float(len(answer.text))} if answer.text.strip() else {}
        return {**super().grade(item, answer), **more}

    def summaries(self):
        return {**super().summaries(), "length": mean_of("length")}


@breaks("not-finite")
class GradesNaN(sound.Quiz):
    def grade(self, item, answer):
        return {**super().grade(item, answer), "empty": float("inf")}

    def summaries(self):
        return {**super().summaries(), "empty": lambda graded: 0.0}


@breaks("not-finite")
class ScoresNaN(sound.Quiz):
    def summaries(self):
        return {**super().summaries(), "empty": lambda graded: float("nan")}


class NoQuizOptions(sound.EvaluatorOptions):
    kind: str = "sound"


@breaks("bad-contract")
class AsksNothing(sound.Quiz):
    Options, reads = NoQuizOptions, frozenset()

    def items(self, data):
        return []


@breaks("answer-ignored")
class IsNeverSurprised(sound.Surprise):
    def measure(self, subject, data, progress):
        return [Graded(one.item, one.answer, {"nats": 1.0}) for one in super().measure(subject, data, progress)]


@breaks("bad-contract")
class MeasuresOtherItems(sound.Surprise):
    def measure(self, subject, data, progress):
        return super().measure(subject, data, progress)[::-1]


@breaks("progress-untrue")
class MeasuresInSilence(sound.Surprise):
    def measure(self, subject, data, progress):
        return super().measure(subject, data, lambda done, of: None)


@breaks("metrics-differ")
class SummarizesWhatItDoesNotMeasure(sound.Surprise):
    def summaries(self):
        return {**super().summaries(), "tokens": mean_of("tokens")}


@breaks("metrics-differ")
class MeasuresMoreOfSomeModels(sound.Surprise):
    def measure(self, subject, data, progress):
        graded = super().measure(subject, data, progress)
        return [
            replace(one, grades={**one.grades, **({"low": 1.0} if one.grades["nats"] % 2 < 1 else {})})
            for one in graded
        ]


@breaks("metrics-differ")
class PrefersLessOfNothing(sound.Surprise):
    def lower_is_better(self):
        return frozenset({"perplexity"})


@breaks("metrics-differ")
class ComparesByNothing(sound.Surprise):
    def biased(self):
        return {"nats": "brier"}


@breaks("bad-contract")
class CannotGrade(sound.Quiz):
    Options, reads = NoQuizOptions, frozenset()
    grade = Evaluator.grade


@breaks("metrics-not-declared")
class ReadsAnotherScore(sound.Bound):
    def judge(self, evidence):
        evidence.get("other.metric")
        return super().judge(evidence)


@breaks("missing-evidence-passes")
class PassesWithout(sound.Bound):
    def judge(self, evidence):
        verdict = super().judge(evidence)
        return verdict if evidence.get(self.options.metric) else replace(verdict, passed=True)


@breaks("nan-passes")
class PassesNaN(sound.Bound):
    def judge(self, evidence):
        score = evidence.get(self.options.metric)
        passed = score is not None and not score.tuned < self.options.at_least
        return Verdict(f"at least {self.options.at_least}", passed, f"it is {score}")


class OpenModel(BaseModel):
    words: int = 3


class OpenQuizOptions(sound.EvaluatorOptions):
    kind: str = "sound"
    most: Annotated[OpenModel, Field(description="Words that an answer may have.")] = OpenModel()


@breaks("unknown-keys-accepted")
class TakesAnyKeyWithin(sound.Quiz):
    Options, reads = OpenQuizOptions, frozenset({"most"})
    vary = {"most": ({"words": 1}, {"words": 2000})}

    def grade(self, item, answer):
        short = len(answer.text.split()) <= self.options.most.words
        return {"right": float(short), "empty": float(not answer.text)}


@breaks("capability-lies")
class ClaimsWhatNoFormatCan(sound.Format):
    def offers(self):
        return frozenset({Cap.TRAINABLE})


@breaks("digest-misses-content")
class DigestsTheSize(sound.Rows):
    def digest(self):
        return str(self.file.stat().st_size)


@breaks("digest-misses-content")
class DigestsTheBeginning(sound.Rows):
    def digest(self):
        with self.file.open("rb") as file:
            return f"{file.read(65536).hex()} {self.file.stat().st_size}"


@breaks("column-ignored")
class AnswersAlwaysTheSame(sound.Format):
    def example(self, fields):
        self.value(fields, self.options.answer)
        always = {"role": "assistant", "content": self.options.answer}
        return Example(self.prompt(fields), [always])


@breaks("foreign-exception")
class FailsOnAnEmptyText(sound.Format):
    def prompt(self, fields):
        (asked,) = super().prompt(fields)
        return [{**asked, "content": f"{self.value(fields, 'text')[0]}: {asked['content']}"}]


@breaks("answer-ignored")
class GradesEveryAnswerAlike(sound.Quiz):
    Options, reads = NoQuizOptions, frozenset()

    def grade(self, item, answer):
        return {"right": 1.0, "empty": 0.0}


@breaks("non-deterministic")
class RemembersTheLastAnswer(sound.Quiz):
    def __init__(self, options):
        super().__init__(options)
        self.last = {}

    def grade(self, item, answer):
        found = super().grade(item, answer)
        last, self.last[item.id] = self.last.get(item.id, 0.0), found["empty"]
        return {**found, "empty": last}


class NoBoundOptions(sound.GateOptions):
    kind: str = "sound"
    metric: Annotated[str, Field(description="Which score.")] = "quiz.right"


@breaks("evidence-ignored")
class PassesAnyScore(sound.Bound):
    Options, reads = NoBoundOptions, frozenset({"metric"})

    def judge(self, evidence):
        score = evidence.get(self.options.metric)
        return Verdict(f"{self.options.metric} is there", score is not None and score.tuned >= 0, f"it is {score}")
