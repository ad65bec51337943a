"""A fake of every part, without torch: the whole pipeline runs on it in a second.

It is a plugin like any other, found through its entry point (the dist-info folder beside it), so a fresh process
finds it too. The model is a table of words; training counts which words go with which answer.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import struct
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.data.mask import prompt_ids
from tunewright.digest import digest_file, digest_json
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.host import hookimpl
from tunewright.parts import (
    AdapterMethod,
    Cap,
    DataSource,
    Engine,
    Evaluator,
    Exporter,
    Gate,
    Loader,
    ModelSource,
    Options,
    PromptFormat,
    Quantizer,
    SpecPath,
    To,
    Tracker,
    Trainer,
)
from tunewright.parts.adapter import AdapterOptions
from tunewright.parts.base import BadOption, Finding, Head
from tunewright.parts.data_source import Row, SourceOptions
from tunewright.parts.engine import Completion, limits
from tunewright.parts.evaluator import EvaluatorOptions, Item, mean_of
from tunewright.parts.exporter import ExporterOptions, Form
from tunewright.parts.gate import GateOptions, Verdict
from tunewright.parts.model_source import Pin
from tunewright.parts.prompt_format import Example
from tunewright.parts.quantizer import stored
from tunewright.parts.tracker import Tracking
from tunewright.parts.trainer import Reference, TrainerOptions, TrainOutcome

STOP = "\x03"
TEMPLATE = "one control character a role, \\x03 after each message"
ROLES = {"system": "\x01", "user": "\x02", "assistant": "\x04"}


def write_safetensors(path: Path, name: str, data: bytes) -> None:
    """One U8 tensor; the layout is safetensors' own: 8 bytes of length, a JSON header, the data."""
    header = json.dumps({name: {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def read_safetensors(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[8 + struct.unpack("<Q", raw[:8])[0] :]


class FakeTokenizer:
    """One token a character; the id is the code point. With a template of another folder roles are not told apart."""

    stops = frozenset({ord(STOP)})
    begin: ClassVar[list[int]] = []
    end = ord(STOP)
    native = None

    def __init__(self, template=TEMPLATE):
        self.template = template

    def render(self, messages, *, generation_prompt):
        if self.template != TEMPLATE:
            return "\n".join(m["content"] for m in messages)
        text = "".join(f"{ROLES[m['role']]}{m['content']}{STOP}\n" for m in messages)
        return text + ROLES["assistant"] if generation_prompt else text

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids, *, special):
        text = "".join(map(chr, ids))
        return text if special else "".join(letter for letter in text if ord(letter) >= 32 or letter == "\n")


class Model:
    """`table` is the adapter: word → answer → count. The base knows nothing and says so."""

    def __init__(self):
        self.table: dict[str, dict[str, float]] | None = None
        self.known: dict[str, dict[str, float]] = {}

    def answer(self, prompt: str) -> str:
        votes = Counter()
        for word in words(prompt):
            for known in (self.known, self.table or {}):
                for answer, weight in sorted(known.get(word, {}).items()):
                    votes[answer] += weight
        return max(sorted(votes), key=votes.__getitem__) if votes else "I do not know."


def words(text: str) -> list[str]:
    last = text.rpartition(ROLES["user"])[2]
    return "".join(letter if letter.isalnum() else " " for letter in last.lower()).split()


class KindOnly(Options):
    kind: str = "fake"


class FakeSource(ModelSource):
    kind, Options = "fake", KindOnly
    name = "fake-base"
    license = "Apache-2.0"

    def pin(self):
        return Pin({"sha256": "0" * 64})

    def fetch(self, pin, out):
        if pin != FakeSource.pin(self):
            raise Refused("another model is pinned")
        (out / "config.json").write_text('{"model_type": "fake"}')
        (out / "tokenizer.json").write_text("{}")
        (out / "chat_template.jinja").write_text(TEMPLATE)
        write_safetensors(out / "model.safetensors", "base", b"the base's weights")


class FakeLoader(Loader):
    kind, Options, engine = "fake", KindOnly, "fake"

    def device(self):
        return "cpu"

    def tokenizer(self, path):
        if not (path / "tokenizer.json").is_file():
            raise BadInput(f"{path.name} holds no tokenizer")
        template = path / "chat_template.jinja"
        return FakeTokenizer(template.read_text() if template.is_file() else "")

    def model(self, path, quantizer, dtype, use):
        if not (path / "model.safetensors").is_file():
            raise BadInput(f"{path.name} holds no model")
        model = Model()
        raw = read_safetensors(path / "model.safetensors")
        model.known = json.loads(raw) if raw.startswith(b"{") else {}  # what was merged into it
        quantizer.prepare(model, use)
        return model


class FakeQuantizer(Quantizer):
    kind, Options = "fake", KindOnly

    def offers(self):
        return frozenset({Cap.TRAINABLE, Cap.FULLY_TRAINABLE, Cap.TAKES_MERGES})

    def config(self):
        return None


class FakeMadeOptions(Options):
    kind: str = "made"
    rows: Annotated[int, Field(description="Rows to calibrate by.")] = 3


class FakeMade(Quantizer):
    """A base that is packed beforehand: its file holds the rows that it was packed by."""

    kind, Options, reads = "made", FakeMadeOptions, frozenset({"rows"})

    def offers(self):
        return frozenset({Cap.TRAINABLE, Cap.MAKES})

    def check(self, facts):
        method = stored(facts.model_config).get("quant_method", self.kind)
        if method != self.kind:
            yield Finding("base-already-quantized", f"the base is packed by {method}", suggestion="take another")

    def config(self):
        return None

    def make(self, model, rows, out):
        texts = ["".join(map(chr, ids)) for ids in rows(self.options.rows)]
        (out / "config.json").write_text('{"model_type": "fake", "quantization_config": {"quant_method": "made"}}')
        write_safetensors(out / "model.safetensors", "base", json.dumps({"_packed_by": texts}).encode())


class FakeAdapterOptions(AdapterOptions):
    kind: str = "fake"


class FakeAdapter(AdapterMethod):
    kind, Options = "fake", FakeAdapterOptions

    def offers(self):
        return frozenset({Cap.ADAPTS, Cap.MERGES, Cap.NEUTRAL, Cap.VLLM})

    def wrap(self, model, parent):
        if parent is not None:
            return self.attach(model, parent)
        model.table = {}
        return model

    def save(self, model, out):
        (out / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "fake-base"}')
        write_safetensors(out / "adapter_model.safetensors", "table", json.dumps(model.table, sort_keys=True).encode())

    def attach(self, model, saved):
        try:
            model.table = json.loads(read_safetensors(saved / "adapter_model.safetensors"))
        except (OSError, ValueError, struct.error) as error:
            raise Refused(f"{saved.name} cannot be read: {error}") from error
        return model

    def merge(self, base, saved, out, dtype):
        table = self.attach(Model(), saved).table
        (out / "config.json").write_text('{"model_type": "fake"}')
        write_safetensors(out / "model.safetensors", "base", json.dumps(table, sort_keys=True).encode())

    def count(self, model):
        return len(model.table), len(model.table) + 100

    def digest(self, model):
        return digest_json(model.table)


class RowsOptions(SourceOptions):
    kind: str = "fake"
    path: Annotated[SpecPath, Field(description="A csv file.")]


class FakeRows(DataSource):
    """A csv file, read the short way."""

    kind, Options = "fake", RowsOptions
    reads = frozenset({"path"})

    @property
    def name(self):
        return self.options.path.path.name

    def _all(self):
        path = self.options.path.path
        if not path.is_file():
            raise BadOption("file-missing", f"there is no file `{self.options.path.written}`", "path")
        try:
            return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadOption("bad-csv", f"`{self.options.path.written}` is not csv: {error}", "path") from error

    def head(self):
        if self.options.path.path.is_file() and self.options.path.path.stat().st_size > 4096:
            with self.options.path.path.open("rb") as file:
                lines = file.read(4096).decode().splitlines()[:-1]
            rows = list(csv.DictReader(lines))
            return Head(tuple(rows[0]), tuple(rows[:5]))
        rows = self._all()
        columns = self.options.path.path.read_text().partition("\n")[0].split(",")
        return Head(tuple(columns), tuple(rows[:5]))

    def digest(self):
        self._all()
        return digest_file(self.options.path.path)

    def rows(self):
        for number, fields in enumerate(self._all(), 2):
            origin = f"{self.name}:{number}"
            yield Row(origin, origin, fields)


class FormatOptions(Options):
    kind: str = "fake"
    system: Annotated[str, Field(description="System message.")] = ""
    answer: Annotated[str, Field(description="Column of the answer.")] = "queue"


class FakeFormat(PromptFormat):
    kind, Options, makes = "fake", FormatOptions, "messages"
    reads = frozenset({"system", "answer"})

    def columns(self):
        return {"text": "kind", self.options.answer: "answer"}

    def prompt_columns(self):
        return frozenset({"text"})

    def prompt(self, fields):
        system = [{"role": "system", "content": self.options.system}] if self.options.system else []
        return [*system, {"role": "user", "content": value_of(fields, "text")}]

    def example(self, fields):
        answer = value_of(fields, self.options.answer)
        return Example(self.prompt(fields), [{"role": "assistant", "content": answer}])


def value_of(fields, column):
    if column not in fields:
        raise BadInput(f"the row has no `{column}`")
    return fields[column]


class FakeTrainerOptions(TrainerOptions):
    kind: str = "fake"
    learning_rate: Annotated[float, Field(gt=0, description="Weight of a vote."), To("rate")] = 1.0
    fail: Annotated[bool, Field(description="The training goes wrong.")] = False


class FakeTrainer(Trainer):
    kind, Options, consumes = "fake", FakeTrainerOptions, ("messages",)
    reads = frozenset({"fail"})
    libraries: ClassVar[tuple[str, ...]] = ("tunewright",)

    def train(self, job):
        if self.options.fail:
            raise WorkFailed("the loss is not a number at rows train.csv:2")
        done = self.take_up(job) if job.resume is not None else 0
        for number, row in enumerate(job.train[done:], done + 1):
            self.learn(job, row)
            job.emit(
                {
                    "event": "train",
                    "optimizer_step": number,
                    "optimizer_steps": len(job.train),
                    "loss": 1 / number,
                    "learning_rate": self.options.learning_rate,
                    "tokens_per_second": 1000.0,
                }
            )
            if number < len(job.train) and job.stopping():
                self.commit(job, number)
                return self.outcome(job, number, stopped=True)
            self.after(job, number)
        return self.outcome(job, len(job.train))

    def after(self, job, number):
        """What is done after a step besides: nothing."""

    def learn(self, job, row):
        prompt = job.tokenizer.decode([t for t, s in zip(row.ids, row.labels, strict=True) if s == -100], special=True)
        answer = job.tokenizer.decode([t for t in row.labels if t != -100], special=False)
        for word in words(prompt):
            votes = job.model.table.setdefault(word, {})
            votes[answer] = votes.get(answer, 0.0) + self.options.learning_rate

    def commit(self, job, number):
        """The state after step `number`, and an event that says so."""
        folder = job.scratch / "stage"
        folder.mkdir()
        (folder / "table.json").write_text(json.dumps(job.model.table))
        job.commit(folder, number)
        job.emit({"event": "checkpoint", "optimizer_step": number})

    def take_up(self, job):
        job.model.table = json.loads((job.resume.folder / "table.json").read_text())
        return job.resume.step

    def outcome(self, job, steps, stopped=False):
        return TrainOutcome(
            steps=steps,
            tokens=sum(row.tokens for row in job.train[:steps]),
            supervised=sum(label != -100 for row in job.train[:steps] for label in row.labels),
            row_order=digest_json([row.row_id for row in job.train[:steps]]),
            observed={"rate": self.options.learning_rate},
            losses=tuple((n, 1 / n) for n in range(1, steps + 1)),
            stopped=stopped,
        )


class RefersOptions(FakeTrainerOptions):
    kind: str = "refers"
    shout: Annotated[bool, Field(description="The reference is asked in capitals.")] = False


class FakeReferring(FakeTrainer):
    """A vote counts by how much the model said of the row before it was trained."""

    kind, Options = "refers", RefersOptions
    reads = frozenset({"fail", "shout"})

    def refers(self, seed):
        return {"shout": self.options.shout}

    def reference(self, job):
        return Reference([self.said(job, row) for row in job.train], [self.said(job, row) for row in job.validation])

    def said(self, job, row):
        text = job.tokenizer.decode(row.ids, special=True)
        length = len(job.model.answer(text)) + len(text) / 100
        return {"length": length * 2 if self.options.shout else length}

    def train(self, job):
        return super().train(job if job.reference else job._replace(reference=self.reference(job)))

    def learn(self, job, row):
        length = job.reference.train[job.train.index(row)]["length"]
        weighed = self.options.model_copy(update={"learning_rate": self.options.learning_rate * length})
        FakeTrainer(weighed).learn(job, row)


class CommitsOptions(FakeTrainerOptions):
    kind: str = "commits"
    drifts: Annotated[bool, Field(description="No process learns what another does.")] = False


class FakeCommitting(FakeTrainer):
    """Commits a checkpoint as `checkpoint_every` says, as a trainer should."""

    kind, Options = "commits", CommitsOptions
    reads = frozenset({"fail", "drifts"})

    def learn(self, job, row):
        super().learn(job, row)
        if self.options.drifts:
            job.model.table["drift"] = {str(os.getpid()): 1.0}

    def after(self, job, number):
        every = self.options.checkpoint_every
        if every and number % every == 0:
            self.commit(job, number)


class FakeSubject:
    def __init__(self, model, identity, tokenizer=None):
        self.model, self.identity, self.tokenizer = model, identity, tokenizer or FakeTokenizer()

    def complete(self, prompts, limit, progress=None, *, together=True):
        asked = list(zip(prompts, limits(limit, len(prompts)), strict=True))
        return self._each(asked, lambda one: self._answer(prompt_ids(one[0], self.tokenizer), one[1]), progress)

    def score(self, rows, progress=None, *, together=True):
        return self._each(rows, self._score, progress)

    def _each(self, asked, ask, progress):
        found = []
        for number, one in enumerate(asked, 1):
            found.append(ask(one))
            if progress is not None:
                progress(number)
        return found

    def _answer(self, prompt, limit):
        ids = self._said(self.tokenizer.decode(prompt, special=True))
        kept = ids[:limit]
        stopped = "terminator" if len(ids) <= limit else "limit"
        return Completion(kept, self.tokenizer.decode(kept, special=False), stopped, prompt)

    def _said(self, prompt):
        return self.tokenizer.encode(self.model.answer(prompt) + STOP)

    def _score(self, row):
        if not row.prompt:
            raise BadInput("nothing stands before the first token")
        text = "".join(map(chr, [*row.prompt, *row.answer]))
        places = range(len(row.prompt), len(text))
        return [math.log(0.9 if self._likely(text[:place], text[place]) else 0.001) for place in places]

    def _likely(self, before, letter):
        """In an answer, what the model would say there; in plain text, what it would begin with or has learnt of."""
        prompt, role, said = before.rpartition(ROLES["assistant"])
        if role:
            return self._said(prompt + role)[len(said) : len(said) + 1] == [ord(letter)]
        return self._said(before)[0] == ord(letter) or letter in "".join(self.model.table or "")


class FakeEngine(Engine):
    kind, Options = "fake", KindOnly

    def offers(self):
        return frozenset({Cap.SCORES})

    @contextmanager
    def open(self, served):
        model = served.loader.model(served.base, served.quantizer, served.dtype, "infer")
        if served.method is None:
            yield FakeSubject(model, "base", served.tokenizer)
            return
        model = served.method.attach(model, served.trained)
        yield FakeSubject(model, served.method.digest(model), served.tokenizer)


class FakeEvaluatorOptions(EvaluatorOptions):
    kind: str = "fake"


class FakeEvaluator(Evaluator):
    kind, Options = "fake", FakeEvaluatorOptions

    def items(self, data):
        return [Item(row.id, row.origin, row.example.prompt, row.example.answer) for row in data]

    def grade(self, item, answer):
        return {"right": float(answer.text == item.reference)}

    def summaries(self):
        return {"right": mean_of("right")}


class FakeGateOptions(GateOptions):
    kind: str = "fake"
    metric: Annotated[str, Field(description="Which score.")] = "fake.right"
    at_least: Annotated[float, Field(description="Smallest score that passes.")] = 0.0


class FakeGate(Gate):
    kind, Options = "fake", FakeGateOptions
    reads = frozenset({"metric", "at_least"})

    def metrics(self):
        return frozenset({self.options.metric})

    def judge(self, evidence):
        score = evidence.get(self.options.metric)
        passed = score is not None and score.tuned >= self.options.at_least
        return Verdict(f"{self.options.metric} is at least {self.options.at_least}", passed, f"it is {score}")


class FakeExporterOptions(ExporterOptions):
    kind: str = "adapter"


class FakeExporter(Exporter):
    kind, Options = "adapter", FakeExporterOptions
    attaches = True

    def export(self, trained, out):
        for path in trained.saved.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        (out / "tokenizer.json").write_text("{}")
        (out / "chat_template.jinja").write_text(trained.tokenizer.template)
        return Form(trained.engine, attach=True)


class FakeMadeExporterOptions(ExporterOptions):
    kind: str = "made"
    rows: Annotated[int, Field(description="Rows to calibrate by.")] = 3


class FakeMadeExporter(Exporter):
    """The merged model and, beside it, the rows that it was packed by."""

    kind, Options, reads, calibrates = "made", FakeMadeExporterOptions, frozenset({"rows"}), True

    def variants(self, facts):
        return [{"rows": 5}]

    def export(self, trained, out):
        trained.merge(out, trained.dtype, "original")
        texts = ["".join(map(chr, ids)) for ids in trained.calibration(self.options.rows)]
        (out / "packed_by.json").write_text(json.dumps(texts))
        return Form(trained.engine, attach=False, dtype=trained.dtype, quantizer={"kind": "made", "rows": 1})


class FakeTrackerOptions(Options):
    kind: str = "fake"
    path: Annotated[SpecPath, Field(description="A file that gets a line for each call.")]
    fail: Annotated[bool, Field(description="It breaks where it is given a step.")] = False


class FakeTracker(Tracker):
    """Writes down what it is called with."""

    kind, Options = "fake", FakeTrackerOptions
    reads = frozenset({"path", "fail"})

    def open(self, about):
        shown = FakeTracking(self.options)
        shown.write({"name": about.name, "stage": about.stage, "arguments": dict(about.arguments)})
        return shown


class FakeTracking(Tracking):
    def __init__(self, options):
        self.options = options

    def log(self, step, values):
        if self.options.fail:
            raise WorkFailed("the server said no")
        self.write({"step": step, **values})

    def close(self):
        self.write("closed")

    def write(self, line):
        with self.options.path.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


@hookimpl
def tunewright_backends() -> dict[str, Any]:
    fakes = {
        "model_source": FakeSource, "loader": FakeLoader, "engine": FakeEngine, "quantizer": FakeQuantizer,
        "adapter": FakeAdapter, "data_source": FakeRows, "prompt_format": FakeFormat, "trainer": FakeTrainer,
        "evaluator": FakeEvaluator, "gate": FakeGate, "tracker": FakeTracker,
    }  # fmt: skip
    table = {f"{part}/fake": f"tunewright_fakes:{fake.__name__}" for part, fake in fakes.items()}
    # the trained form is always exported, by the exporter of that name
    made = {"quantizer/made": "tunewright_fakes:FakeMade", "exporter/made": "tunewright_fakes:FakeMadeExporter"}
    further = {"trainer/refers": "tunewright_fakes:FakeReferring", "exporter/adapter": "tunewright_fakes:FakeExporter"}
    return {**table, **made, **further, "trainer/commits": "tunewright_fakes:FakeCommitting"}
