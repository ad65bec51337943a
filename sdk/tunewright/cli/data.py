"""`data show`: the realised mixture in rows and tokens, splits, classes and lengths, and the mask over the tokens."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from tunewright.cli.progress import Progress
from tunewright.cli.tables import console
from tunewright.data.mask import tokenize, view, violations
from tunewright.data.pack import pack
from tunewright.data.rows import BadSource, Realised
from tunewright.data.same import Sameness
from tunewright.data.statistics import classes_of, count_sources, lengths
from tunewright.harmless import harmless
from tunewright.host import Host
from tunewright.parts.data_source import Row
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import AnyExample, Text
from tunewright.parts.trainer import AnyRow, TokenRow
from tunewright.pipeline.extras import named
from tunewright.pipeline.repeats import repeats
from tunewright.pipeline.rows import example_of, read_all, rows_of
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.fetch import Fetch, base_folder
from tunewright.pipeline.tasks.prepare import totals
from tunewright.project import Project
from tunewright.resolve import Resolved
from tunewright.resolve.resolved import Claims, Training
from tunewright.spec.model import Split
from tunewright.spec.problems import SpecError
from tunewright.store.publish import Artifact

BAR = 30  # characters of the longest bar
WIDEST = 32  # characters of a class's name that stand in a line


def show_data(
    spec: Path,
    overrides: Sequence[str],
    tokens: bool | None,
    count: int,
    host: Host,
    as_json: bool = False,
) -> None:
    """Print what each training of a spec is given, and its first `count` rows.

    With `tokens`, each shown row's mask; with `tokens=False`, nothing is counted in tokens, and no base is fetched
    for its tokenizer. Raises `SpecError` where a source cannot be used, `BadInput` at a row that cannot be.
    """
    resolved = Project.from_spec(spec, overrides=overrides, host=host).resolve()
    with named(resolved):
        found = _describe(resolved, tokens, count)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _print(found)


# --- what there is


class _Given(NamedTuple):
    """The rows of one training: the mixture in the spec's order, examples and, where they are counted, tokens."""

    rows: list[Row]
    examples: list[AnyExample]
    tokens: list[AnyRow] | None


_Held = tuple[list[Realised], Training | Claims]
"""Rows that are not learnt, and what they are held back for."""


def _describe(resolved: Resolved, tokens: bool | None, count: int) -> dict[str, Any]:
    try:
        every = read_all(resolved)
    except BadSource as error:
        raise SpecError([resolved.problem(error.source, error.finding)], resolved.document.sources) from error
    claims = {one.name: (one.rows, one.claims) for one in every.claimed}
    tokenizer = None if tokens is False else resolved.loader.tokenizer(_base(resolved))
    trainings = []
    for training, rows in every.learnt:
        limit = None if training.trainer.packs else training.trainer.options.max_length
        held: dict[str, _Held] = {"validation": (rows.validation, training), **claims}
        found = _given(training, rows.train, tokenizer)
        trainings.append(
            {
                "name": training.name,
                "trainer": training.trainer.kind,
                "format": training.format.kind,
                "makes": training.format.makes,
                **_counts(training, rows.train, found),
                "held": {
                    name: _held(every.same(judged, training), rows.train, one, judged)
                    for name, (one, judged) in held.items()
                },
                "shown": list(_shown(found, count, tokenizer if tokens else None, limit)),
            }
        )
    found_again = [one.to_json() for one in repeats(every)]
    return {"name": resolved.spec.name, "seed": resolved.spec.seed, "trainings": trainings, "repeats": found_again}


def _counts(training: Training, sources: Sequence[Realised], found: _Given) -> dict[str, Any]:
    limit, packs = training.trainer.options.max_length, training.trainer.packs
    answers = classes_of(training.format.makes, found.examples)
    counts = {
        "rows": len(found.rows),
        "classes": None if answers is None else [asdict(one) for one in answers],
        "sources": [asdict(one) for one in count_sources(sources, _tokens_by_source(sources, found.tokens))],
    }
    if not found.tokens:
        return {**counts, "tokens": None, "supervised": None, "lengths": None, "packed": None}
    packed = pack([row for row in found.tokens if isinstance(row, TokenRow)], limit) if packs else None
    given = totals(found.tokens if packed is None else packed)
    return {
        **counts,
        "tokens": given["tokens"],
        "supervised": given["supervised"],
        "lengths": asdict(lengths(found.tokens, limit, packed=packs)),
        "packed": None if packed is None else len(packed),
    }


def _given(training: Training, sources: Sequence[Realised], tokenizer: Tokenizer | None) -> _Given:
    """Examples and tokens are made once of each row, however often the mixture gives it."""
    rows = rows_of(sources)
    examples: dict[int, AnyExample] = {}
    made: dict[int, AnyRow] = {}
    for row in rows:
        fields = id(row.fields)  # a copy's are the row's own
        if fields not in examples:
            examples[fields] = example_of(training.format, row)
            if tokenizer is not None:
                made[fields] = tokenize(row.id, row.origin, examples[fields], tokenizer)
    tokens = None if tokenizer is None else [made[id(row.fields)] for row in rows]
    return _Given(rows, [examples[id(row.fields)] for row in rows], tokens)


def _tokens_by_source(sources: Sequence[Realised], tokens: Sequence[AnyRow] | None) -> list[int] | None:
    if tokens is None:
        return None
    rest = iter(tokens)
    return [sum(row.tokens for row in islice(rest, one.given)) for one in sources]


def _held(
    same: Sameness, train: Sequence[Realised], held: Sequence[Realised], judged: Training | Claims
) -> dict[str, Any]:
    """Rows that are not learnt. `equal` counts those that equal a learnt one; `dropped` those left out as such."""
    rows, split = rows_of(held), judged.validation if isinstance(judged, Training) else judged.split
    return {
        "rows": len(rows),
        "dropped": sum(one.dropped for one in held),
        "equal": len(same.repeats(rows, same.known(rows_of(train)))),
        "split": split.model_dump(exclude_none=True) if isinstance(split, Split) else None,
    }


def _shown(found: _Given, count: int, tokenizer: Tokenizer | None, limit: int | None) -> Iterator[dict[str, Any]]:
    """The first rows; with a tokenizer, each with its mask and what is wrong with it."""
    for place, (row, example) in enumerate(zip(found.rows[:count], found.examples, strict=False)):
        shown: dict[str, Any] = {"id": row.id, "origin": row.origin, "example": example._asdict()}
        if tokenizer is not None and found.tokens is not None:
            made = found.tokens[place]
            shown["mask"] = view(made, tokenizer)
            shown["wrong"] = list(violations(made, example, tokenizer, limit))
        yield shown


def _base(resolved: Resolved) -> Path:
    """The base's folder, fetched into the cache where it is not there yet."""
    task = Fetch(resolved.source, resolved.source.pin())
    with tempfile.TemporaryDirectory() as folder, Progress(sys.stderr) as progress:
        out = Path(folder)
        task.run({}, out, Context(out, lambda event: progress.hear({"step": "fetch", **event})))
        return base_folder(Artifact(out, {}))


# --- how it is printed


def _print(found: Mapping[str, Any]) -> None:
    out = console()
    for place, training in enumerate(found["trainings"]):
        if place:
            out.print()
        _print_training(out, training)
    if found["repeats"]:
        out.print()
    for one in found["repeats"]:
        out.print(Line(f"warning: {one['message']}"))


def _print_training(out: Console, found: Mapping[str, Any]) -> None:
    who = f"stage {found['name']}: " if found["name"] else ""
    out.print(Line(f"{who}{found['trainer']} learns {found['makes']} rows, made by format {found['format']}"))
    out.print()
    out.print(_sources(found["sources"]))
    out.print()
    for line in _lines(found):
        out.print(Line(line))
    if found["lengths"] is not None:
        out.print()
        bins = [(_range(one["low"], one["high"]), one["rows"]) for one in found["lengths"]["bins"]]
        out.print(_bars("tokens", bins, right=True))
    if found["classes"] is not None:
        out.print()
        out.print(_bars("answer", [(" ".join(one["answer"].split()), one["rows"]) for one in found["classes"]]))
    for row in found["shown"]:
        _print_row(row)


def _sources(found: Sequence[Mapping[str, Any]]) -> Table:
    """Every source with what was read, what is kept on the training side and what the mixture is given."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source", overflow="fold", min_width=12)
    counted = all(one["tokens"] is not None for one in found)
    for name in ("read", "set aside", "kept", "given", "copies", "of rows", *(["of tokens"] if counted else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        numbers = [f"{one[name]:,}" for name in ("read", "set_aside", "kept", "given", "copies")]
        shares = ["share_of_rows", *(["share_of_tokens"] if counted else [])]
        table.add_row(Line(one["name"]), *numbers, *(_percent(one[name]) for name in shares))
    return table


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield _line("train", _rows(found["rows"]))
    for name, held in found["held"].items():
        if held["rows"] or name != "validation":
            yield _line(name, f"{_rows(held['rows'])}{_how(held)}")
    yield from _about_tokens(found)
    if found["classes"] is not None:
        largest, smallest = found["classes"][0], found["classes"][-1]
        ends = (f"{what} has {_rows(one['rows'])}" for what, one in (("largest", largest), ("smallest", smallest)))
        yield _line("answers", f"{len(found['classes'])} distinct; the {', the '.join(ends)}")


def _line(name: str, text: str) -> str:
    return f"{name:<11} {text}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _how(held: Mapping[str, Any]) -> str:
    split = held["split"]
    if split is None:
        return ""
    by = next((f" by {way} `{split[way]}`" for way in ("group", "time") if way in split), "")
    dropped = f"; {held['dropped']:,} left out, equal to a kept row but for it" if held["dropped"] else ""
    return f": {_percent(split['fraction'])} split off{by}{dropped}"


def _about_tokens(found: Mapping[str, Any]) -> Iterator[str]:
    length = found["lengths"]
    if length is None:
        yield _line("tokens", "not counted: --no-tokens")
        return
    yield _line("tokens", f"{found['tokens']:,}, of which {found['supervised']:,} are supervised")
    yield _line("lengths", f"half up to {length['p50']:,}, 95 % up to {length['p95']:,}, longest {length['longest']:,}")
    if found["packed"] is not None:
        yield _line("packed", f"joined and cut into {_rows(found['packed'])} of at most {length['limit']:,} tokens")
    else:
        fate = "; each is an error, nothing is cut" if length["over"] else ""
        over = f"over it: {_rows(length['over'])} ({_percent(length['share_over'])})"
        yield _line("max_length", f"{length['limit']:,} tokens; {over}{fate}")


def _bars(what: str, counts: Sequence[tuple[str, int]], *, right: bool = False) -> Table:
    """Counts as text, share and bar; the longest bar is the largest count's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(what, justify="right" if right else "left", no_wrap=True, max_width=WIDEST, overflow="ellipsis")
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most, total = max(count for _, count in counts), sum(count for _, count in counts)
    for name, count in counts:
        bar = "█" * round(BAR * count / most) or ("▏" if count else "")
        table.add_row(Line(name), f"{count:,}", _percent(count / total), bar)
    return table


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _print_row(row: Mapping[str, Any]) -> None:
    """A row as it was read, or with its mask; not wrapped, so that it can be copied."""
    print(f"\n{row['origin']}")
    if "mask" in row:
        print(harmless(row["mask"]))
        for violation in row["wrong"]:
            print(harmless(f"  wrong: {violation}"))
        return
    for name, value in row["example"].items():
        for line in _said(name, value):
            print(harmless(f"  {line}"))


def _said(name: str, value: Text | bool) -> Iterator[str]:
    if isinstance(value, bool):
        yield f"{name}: {'wanted' if value else 'not wanted'}"
    elif isinstance(value, str):
        if value:
            yield f"{name}: {value}"
    else:
        aside = f"{name}, " if name in ("chosen", "rejected") else ""
        yield from (f"{aside}{message['role']}: {message['content']}" for message in value)
