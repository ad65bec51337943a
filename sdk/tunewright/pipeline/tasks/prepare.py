"""prepare: rows become tokens, and the mask is proven on every one of them before a minute of training is spent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.data.mask import IGNORED, prove, spans, tokenize
from tunewright.data.rows import realise_all
from tunewright.digest import canonical_json
from tunewright.errors import BadInput
from tunewright.parts import Backend, DataSource, Loader, PromptFormat
from tunewright.parts.data_source import Row
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Example
from tunewright.parts.trainer import TokenRow
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.store import disk
from tunewright.store.publish import Artifact

ROWS, FACTS = "rows.jsonl", "data.json"


class Prepare(Task):
    """Training rows as token ids and labels, with what was counted on the way."""

    def __init__(
        self, loader: Loader, form: PromptFormat, train: Sequence[DataSource], max_length: int, seed: int
    ) -> None:
        self.loader, self.format, self.train = loader, form, tuple(train)
        self.max_length, self.seed = max_length, seed

    def parts(self) -> tuple[Backend, ...]:
        return (self.loader, self.format, *self.train)

    def settings(self) -> dict[str, Any]:
        return {"max_length": self.max_length, "seed": self.seed}

    def sources(self) -> Mapping[str, str]:
        return {f"train.{place} {source.name}": source.digest() for place, source in enumerate(self.train)}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base = base_folder(inputs["model"])
        rows, facts = prepare(self.format, self.train, self.loader.tokenizer(base), self.max_length, self.seed)
        _refuse_beyond(base, rows)
        disk.write(out / ROWS, b"\n".join(canonical_json(vars(row)) for row in rows) + b"\n")
        disk.write(out / FACTS, canonical_json(facts))
        context.emit({"event": "progress", "what": "mask proven", "done": len(rows), "of": len(rows)})
        return {"rows": len(rows), "tokens": facts["tokens"], "supervised": facts["supervised"]}


def prepare(
    form: PromptFormat, sources: Sequence[DataSource], tokenizer: Tokenizer, max_length: int, seed: int
) -> tuple[list[TokenRow], dict[str, Any]]:
    """Realise, tokenize and prove. Raises `BadInput` naming the row where anything is wrong."""
    realised = realise_all(sources, seed)
    rows = [row for one in realised for row in one.rows]
    examples = [example_of(form, row) for row in rows]
    tokens = [tokenize(row.id, row.origin, ex, tokenizer) for row, ex in zip(rows, examples, strict=True)]
    prove(tokens, examples, tokenizer, max_length)
    facts = {
        "sources": [{"name": one.name, "rows": len(one.rows), "set_aside": len(one.set_aside)} for one in realised],
        "rows": len(tokens),
        "tokens": sum(len(row.ids) for row in tokens),
        "supervised": sum(label != IGNORED for row in tokens for label in row.labels),
        "longest": max(len(row.ids) for row in tokens),
        "mask": [{"origin": row.origin, "spans": [vars(s) for s in spans(row, tokenizer)]} for row in tokens[:2]],
    }
    return tokens, facts


def _refuse_beyond(base: Path, rows: Sequence[TokenRow]) -> None:
    """No position beyond those that the base was made for: it would be trained on without having a meaning there."""
    takes = json.loads((base / "config.json").read_text("utf-8")).get("max_position_embeddings")
    for row in rows:
        if isinstance(takes, int) and len(row.ids) > takes:
            raise BadInput(f"{row.origin}: {len(row.ids)} tokens, the base takes {takes}", fix="shorten the row")


def example_of(form: PromptFormat, row: Row) -> Example:
    """A row's example; what is wrong with a row names where it stands."""
    try:
        example = form.example(row.fields)
    except BadInput as error:
        raise BadInput(f"{row.origin}: {error.message}", fix=error.fix) from error
    except KeyError as error:  # jsonl rows need not have the columns of the first
        raise BadInput(f"{row.origin}: the row has no column {error}", fix="mend the row or leave it out") from error
    if not example.answer.strip():
        raise BadInput(f"{row.origin}: the answer is empty", fix="mend the row or leave it out")
    return example


def read_rows(prepared: Artifact) -> list[TokenRow]:
    """The rows that a prepare step wrote."""
    return [TokenRow(**row) for row in prepared.lines(ROWS)]
