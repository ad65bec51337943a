"""A small sound backend of every part, without torch: what the kit must let pass, and what broken ones are made of."""

from __future__ import annotations

import atexit
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from tunewright.digest import digest_file, digest_json
from tunewright.errors import BadInput, Refused
from tunewright.parts import Cap, DataSource, Evaluator, Gate, Options, PromptFormat, SpecPath, To
from tunewright.parts.base import BadOption, Head
from tunewright.parts.data_source import Row, SourceOptions
from tunewright.parts.engine import Completion, Continuation
from tunewright.parts.evaluator import TIED, EvaluatorOptions, Graded, Item, ScoringOptions, mean_of
from tunewright.parts.exporter import ExporterOptions
from tunewright.parts.gate import GateOptions, Verdict
from tunewright.parts.prompt_format import Example
from tunewright.parts.trainer import TrainerOptions
from tunewright.testing import World, check

FAKES = str(Path(__file__).parents[1] / "fakes")
sys.path.insert(0, FAKES)
import tunewright_fakes as fakes  # noqa: E402

sys.path.remove(FAKES)  # left there, the fakes would be an installed plugin to every other test


class Bare(Options):
    kind: str = "sound"


class Source(fakes.FakeSource):
    kind, Options = "sound", Bare

    def config(self):
        return {"model_type": "fake"}

    def fetch(self, pin, out):
        if pin != self.pin():
            raise Refused("another model is pinned")
        super().fetch(pin, out)


class Loader(fakes.FakeLoader):
    kind, Options, engine = "sound", Bare, "sound"

    def tokenizer(self, path):
        self._there(path)
        return super().tokenizer(path)

    def model(self, path, quantizer, dtype, use):
        self._there(path)
        return super().model(path, quantizer, dtype, use)

    def _there(self, path):
        if not (path / "model.safetensors").is_file():
            raise BadInput(f"{path.name} holds no model")


class Quantizer(fakes.FakeQuantizer):
    kind, Options = "sound", Bare

    def offers(self):
        return frozenset({Cap.TRAINABLE})


class Adapter(fakes.FakeAdapter):
    kind, Options = "sound", Bare

    def wrap(self, model, parent):
        return super().wrap(model, None) if parent is None else self.attach(model, parent)

    def attach(self, model, saved):
        try:
            json.loads((saved / "adapter_config.json").read_text())
            return super().attach(model, saved)
        except (OSError, ValueError) as error:
            raise Refused(f"{saved.name} cannot be read") from error


class Engine(fakes.FakeEngine):
    kind, Options = "sound", Bare


class RowsOptions(SourceOptions):
    kind: str = "sound"
    path: Annotated[SpecPath, Field(description="The file, `text;label` a line.")]
    column: Annotated[str, Field(description="What the first column is called.")] = "text"


class Rows(DataSource):
    """A text and a label a line, with a semicolon between."""

    kind, Options = "sound", RowsOptions
    reads = frozenset({"path", "column"})

    @property
    def file(self):
        if not self.options.path.path.is_file():
            raise BadOption("file-missing", f"there is no file `{self.options.path.written}`", "path")
        return self.options.path.path

    def read(self, most=-1):
        with self.file.open("rb", buffering=0) as file:
            data = file.read(most)
        if most != -1 and len(data) == most:
            data = data[: data.rfind(b"\n") + 1]
        try:
            return [line.partition(";") for line in data.decode().splitlines()]
        except UnicodeDecodeError as error:
            raise BadOption("not-utf-8", "not UTF-8 text", "path") from error

    def fields(self, line):
        return {self.options.column: line[0], "label": line[2]}

    def head(self):
        return Head((self.options.column, "label"), tuple(self.fields(line) for line in self.read(4096)))

    def digest(self):
        return digest_file(self.file)

    def rows(self):
        for number, line in enumerate(self.read(), 1):
            origin = f"{self.file.name}:{number}"
            yield Row(origin, origin, self.fields(line))


class DatabaseOptions(SourceOptions):
    kind: str = "sound"
    path: Annotated[SpecPath, Field(description="A database with a table `rows` of texts and labels.")]


class Database(DataSource):
    kind, Options = "sound", DatabaseOptions
    reads = frozenset({"path"})
    after = "select 1"

    def read(self, sql):
        path = self.options.path.path
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as base:
                found = list(base.execute(sql))
                base.execute(self.after)
                base.commit()
                return found
        except sqlite3.Error as error:
            raise BadOption("not-a-database", f"`{path.name}` cannot be read: {error}", "path") from error

    def head(self):
        fields = (dict(zip(("text", "label"), row, strict=True)) for row in self.read("select * from rows limit 5"))
        return Head(("text", "label"), tuple(fields))

    def digest(self):
        return digest_json(self.read("select * from rows"))

    def rows(self):
        for number, (text, label) in enumerate(self.read("select * from rows")):
            yield Row(f"row {number}", f"row {number}", {"text": text, "label": label})


class FormatOptions(Options):
    kind: str = "sound"
    answer: Annotated[str, Field(description="Column of the answer.")] = "label"
    polite: Annotated[bool, Field(description="Says please.")] = False


class Format(PromptFormat):
    kind, Options, makes = "sound", FormatOptions, "messages"
    reads = frozenset({"answer", "polite"})

    def columns(self):
        return {"text": "kind", self.options.answer: "answer"}

    def prompt_columns(self):
        return frozenset({"text"})

    def value(self, fields, column):
        if fields.get(column) is None:
            raise BadInput(f"the row has no `{column}`")
        return str(fields[column])

    def prompt(self, fields):
        please = "please: " if self.options.polite else ""
        return [{"role": "user", "content": please + self.value(fields, "text")}]

    def example(self, fields):
        answer = {"role": "assistant", "content": self.value(fields, self.options.answer)}
        return Example(self.prompt(fields), [answer])


class TunerOptions(TrainerOptions):
    fail: ClassVar[bool] = False  # the fake reads it
    kind: str = "sound"
    learning_rate: Annotated[float, Field(gt=0, description="Weight of a vote."), To("rate")] = 1.0


class Tuner(fakes.FakeTrainer):
    kind, Options = "sound", TunerOptions
    reads = frozenset()

    def train(self, job):
        (job.scratch / "notes.txt").write_text("begun")
        return super().train(job)


class HeldOptions(TunerOptions):
    kind: str = "sound"
    shout: Annotated[bool, Field(description="The reference is asked in capitals.")] = False


class Held(fakes.FakeReferring):
    """A trainer with a reference."""

    kind, Options = "sound", HeldOptions
    reads = frozenset({"shout"})


class QuizOptions(EvaluatorOptions):
    kind: str = "sound"
    strict: Annotated[bool, Field(description="White space counts.")] = False


class Quiz(Evaluator):
    kind, Options = "sound", QuizOptions
    reads = frozenset({"strict"})

    def items(self, data):
        return [Item(row.id, row.origin, row.example.prompt, row.example.answer) for row in data]

    def grade(self, item, answer):
        text = answer.text if self.options.strict else answer.text.strip()
        return {"right": float(text == item.reference), "empty": float(not text)}

    def summaries(self):
        return {"right": mean_of("right"), "empty": mean_of("empty")}


class Tasks(Quiz):
    """Grades that concern some items alone, and ties beside the scores."""

    def grade(self, item, answer):
        grades = super().grade(item, answer)
        if item.reference.startswith("d"):
            grades["short"] = float(len(answer.text) < 20)
        return {**grades, TIED: 0.0}

    def summaries(self):
        return {**super().summaries(), "short": mean_of("short")}


class SurpriseOptions(ScoringOptions):
    kind: str = "sound"


class Surprise(Evaluator):
    kind, Options, asks = "sound", SurpriseOptions, False

    def items(self, data):
        return [Item(row.id, row.origin, row.example.prompt, row.example.answer) for row in data]

    def measure(self, subject, data, progress):
        encode, said = subject.tokenizer.encode, [row.example.answer for row in data]
        rows = [Continuation(subject.tokenizer.begin, encode(text)) for text in said]
        scores = subject.score(rows, lambda done: progress(done, len(rows)))
        answers = [Completion(row.answer, text, "given", row.prompt) for row, text in zip(rows, said, strict=True)]
        grades = [{"nats": -sum(one)} for one in scores]
        return [Graded(*each) for each in zip(self.items(data), answers, grades, strict=True)]

    def summaries(self):
        return {"nats": mean_of("nats")}

    def lower_is_better(self):
        return frozenset({"nats"})


class BoundOptions(GateOptions):
    kind: str = "sound"
    metric: Annotated[str, Field(description="Which score.")] = "quiz.right"
    at_least: Annotated[float, Field(description="Smallest score that passes.")] = 0.5


class Bound(Gate):
    kind, Options = "sound", BoundOptions
    reads = frozenset({"metric", "at_least"})

    def metrics(self):
        return frozenset({self.options.metric})

    def judge(self, evidence):
        score = evidence.get(self.options.metric)
        passed = score is not None and score.tuned >= self.options.at_least
        return Verdict(f"{self.options.metric} is at least {self.options.at_least}", passed, f"it is {score}")


class CopyOptions(ExporterOptions):
    kind: str = "sound"


class Copy(fakes.FakeExporter):
    kind, Options = "sound", CopyOptions

    def export(self, trained, out):
        with tempfile.TemporaryDirectory() as scratch:  # cleaned up: nothing is left
            (Path(scratch) / "file").write_text("x")
        random.Random(0).random()  # a generator of its own
        return super().export(trained, out)


SOUND = (Source, Loader, Quantizer, Adapter, Engine, Rows, Format, Tuner, Held, Quiz, Tasks, Surprise, Bound, Copy)
HAVE_A_WORLD = ("loader", "quantizer", "adapter", "engine", "trainer", "exporter")


def made(backend, **options):
    return backend(backend.Options.model_validate({"kind": backend.kind, **options}))


def teach(model):
    model.table = {"parcel": {"delivery": 2.0}, "card": {"billing": 1.5}}


def outputs(model, tokenizer):
    return [model.answer("where is my parcel"), model.answer("the card"), model.answer("?")]


def gradient(model, tokenizer):
    return getattr(model, "gradient", [0.5, -0.25])


@cache
def world(fakes=False):
    """A model is a table of words; around it the sound backends, or the fakes that they are made of."""
    base = Path(tempfile.mkdtemp(prefix="tunewright-kit-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    made(Source).fetch(made(Source).pin(), base)
    backends = {"loader": Loader, "quantizer": Quantizer, "method": Adapter, "engine": Engine}
    if fakes:
        backends = {name: backend.__base__ for name, backend in backends.items()}
    parts = {name: made(backend) for name, backend in backends.items()}
    return World(base=base, teach=teach, outputs=outputs, gradient=gradient, **parts)


def check_in_the_fakes_world(backend, folder, options):
    """The kit's check, with what the backend's part needs."""
    sample = {"world": world()} if backend.part in HAVE_A_WORLD else {}
    if backend.part == "data_source":
        path = folder / "rows.txt"
        path.write_text("where is my parcel;delivery\nthe card was declined;billing\nI cannot sign in;account\n")
        options = {"path": path, **options}
    (folder / "kit").mkdir()
    check(backend, options, folder=folder / "kit", **sample)
