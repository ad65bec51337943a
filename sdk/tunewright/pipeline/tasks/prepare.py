"""prepare: rows become tokens, and the mask is proven on every one of them before a minute of training is spent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.data.mask import length, prove, sequences, spans, tokenize
from tunewright.data.pack import pack
from tunewright.data.prefixes import saved
from tunewright.data.rows import Realised
from tunewright.data.statistics import classes_of, lengths
from tunewright.digest import canonical_json
from tunewright.errors import BadInput
from tunewright.parts import Backend, Loader, PromptFormat
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import AnyExample
from tunewright.parts.trainer import AnyRow, FeedbackRow, PairRow, TokenRow
from tunewright.pipeline.rows import TrainingRows, counted, example_of, rows_of
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.store import disk
from tunewright.store.publish import Artifact

ROWS, HELD, FACTS = "rows.jsonl", "validation.jsonl", "data.json"
PREFIX_SEED = 0  # of the batches on which it is measured what shared beginnings save
SHOWN = 2  # rows whose mask the report shows


class Tokens(NamedTuple):
    """How rows become tokens: `packed` rows are joined and cut at `max_length`, others may not be longer."""

    tokenizer: Tokenizer
    max_length: int
    packed: bool


class Prepare(Task):
    """Training and validation rows as token ids, with what was counted on the way."""

    version = 4

    def __init__(self, loader: Loader, rows: TrainingRows, max_length: int, packed: bool) -> None:
        self.loader, self.rows, self.max_length, self.packed = loader, rows, max_length, packed

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, *self.rows.parts())

    def settings(self) -> dict[str, Any]:
        return {"max_length": self.max_length, "packed": self.packed, **self.rows.settings()}

    def sources(self) -> Mapping[str, str]:
        return self.rows.digests()

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base = base_folder(inputs["model"])
        tokenizer = self.loader.tokenizer(base)
        tokens = Tokens(tokenizer, self.max_length, self.packed)
        learnt = self.rows.realise()
        proven = prove_all(self.rows.format, learnt.train, tokens)
        train = given(proven, tokens)
        held = given(prove_all(self.rows.format, learnt.validation, tokens), tokens) if learnt.validation else []
        _refuse_beyond(base, [*train, *held])
        for name, rows in ((ROWS, train), (HELD, held)):
            disk.write(out / name, b"".join(canonical_json(vars(row)) + b"\n" for row in rows))
        facts = {
            "sources": counted(learnt.train),
            "validation": counted(learnt.validation),
            **totals(train),
            # these decide over nothing: what was prepared before they were counted is as good to train on
            **described(self.rows.format, proven, tokens),
            "prefixes": saved([[one.ids for one in sequences(row).values()] for row in train], PREFIX_SEED)._asdict(),
            "mask": [
                {"origin": row.origin, "spans": [vars(s) for s in spans(row, tokenizer)]} for row in train[:SHOWN]
            ],
        }
        disk.write(out / FACTS, canonical_json(facts))
        context.emit({"event": "progress", "what": "mask proven", "done": len(train), "of": len(train)})
        return {"rows": len(train), "tokens": facts["tokens"], "supervised": facts["supervised"]}


class Proven(NamedTuple):
    """Rows as examples and as tokens, before they are packed."""

    examples: list[AnyExample]
    rows: list[AnyRow]


def prove_all(form: PromptFormat, realised: Sequence[Realised], how: Tokens) -> Proven:
    """Tokenize and prove. Raises `BadInput` naming the row where anything is wrong."""
    rows = rows_of(realised)
    examples = [example_of(form, row) for row in rows]
    made = [tokenize(row.id, row.origin, ex, how.tokenizer) for row, ex in zip(rows, examples, strict=True)]
    prove(made, examples, how.tokenizer, None if how.packed else how.max_length)
    return Proven(examples, made)


def given(proven: Proven, how: Tokens) -> list[AnyRow]:
    """The rows that the trainer gets."""
    if not how.packed:
        return proven.rows
    return list(pack([row for row in proven.rows if isinstance(row, TokenRow)], how.max_length))


def described(form: PromptFormat, proven: Proven, how: Tokens) -> dict[str, Any]:
    """Lengths and classes of the rows, as `data show` counts them."""
    classes = classes_of(form.makes, proven.examples)
    counted = lengths(proven.rows, how.max_length, packed=how.packed) if proven.rows else None
    return {
        "lengths": None if counted is None else asdict(counted),
        "classes": None if classes is None else [asdict(one) for one in classes],
    }


def totals(rows: Sequence[AnyRow]) -> dict[str, int]:
    """Rows, tokens, those that bear a loss, and the longest row."""
    return {
        "rows": len(rows),
        "tokens": sum(row.tokens for row in rows),
        "supervised": sum(row.supervised for row in rows),
        "longest": max((row.tokens for row in rows), default=0),
    }


def _refuse_beyond(base: Path, rows: Sequence[AnyRow]) -> None:
    """No position beyond those that the base was made for: it would be trained on without having a meaning there."""
    takes = json.loads((base / "config.json").read_text("utf-8")).get("max_position_embeddings")
    for row in rows:
        if isinstance(takes, int) and length(row) > takes:
            raise BadInput(f"{row.origin}: {length(row)} tokens, the base takes {takes}", fix="shorten the row")


def read_rows(prepared: Artifact, name: str = ROWS) -> list[AnyRow]:
    """The rows that a prepare step wrote."""
    return [_row(line) for line in prepared.lines(name)]


def _row(line: Mapping[str, Any]) -> AnyRow:
    kind = PairRow if "chosen" in line else FeedbackRow if "label" in line else TokenRow
    return kind(**line)
