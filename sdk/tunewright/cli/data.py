"""`data show`: the realised rows, what they count to, and the mask over the tokens."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tunewright.cli.progress import Progress
from tunewright.data.mask import IGNORED, tokenize, view, violations
from tunewright.data.rows import realise_all
from tunewright.host import Host
from tunewright.parts.data_source import Row
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.fetch import Fetch, base_folder
from tunewright.pipeline.tasks.prepare import example_of
from tunewright.project import Project
from tunewright.resolve import Resolved
from tunewright.store.publish import Artifact


def show_data(spec: Path, overrides: Sequence[str], tokens: bool, count: int, host: Host) -> None:
    """Print rows and statistics of a spec's training data; with `tokens`, each shown row's mask."""
    project = Project.from_spec(spec, overrides=overrides, host=host)
    plan = project.plan()
    resolved = plan.resolved
    sources = {"train": resolved.train, "test": resolved.test}
    realised = {part: realise_all(found, resolved.spec.seed) for part, found in sources.items()}
    for part, found in realised.items():
        for one in found:
            aside = f", {len(one.set_aside)} set aside" if one.set_aside else ""
            print(f"{part}: {one.name}: {len(one.rows):,} of {one.read:,} rows{aside}")
    rows = [row for one in realised["train"] for row in one.rows]
    if tokens:
        _show_tokens(resolved, rows, count)
    else:
        _show_rows(resolved, rows, count)


def _show_rows(resolved: Resolved, rows: Sequence[Row], count: int) -> None:
    for row in rows[:count]:
        example = example_of(resolved.format, row)
        print(f"\n{row.origin}")
        for message in (*example.prompt, *example.completion):
            print(f"  {message['role']}: {message['content']}")


def _show_tokens(resolved: Resolved, rows: Sequence[Row], count: int) -> None:
    tokenizer = resolved.loader.tokenizer(_base(resolved))
    examples = [example_of(resolved.format, row) for row in rows]
    made = [tokenize(row.id, row.origin, ex, tokenizer) for row, ex in zip(rows, examples, strict=True)]
    lengths = sorted(len(row.ids) for row in made)
    supervised = sum(label != IGNORED for row in made for label in row.labels)
    limit = resolved.trainer.options.max_length
    print(
        f"{len(made):,} rows, {sum(lengths):,} tokens, {supervised:,} supervised; "
        f"shortest {lengths[0]}, median {lengths[len(lengths) // 2]}, longest {lengths[-1]} of {limit}"
    )
    for row, example in zip(made[:count], examples, strict=False):
        print(f"\n{row.origin}\n{view(row, tokenizer)}")
        for violation in violations(row, example, tokenizer, limit):
            print(f"  wrong: {violation}")


def _base(resolved: Resolved) -> Path:
    """The base's folder, fetched into the cache where it is not there yet."""
    task = Fetch(resolved.source, resolved.source.pin())
    with tempfile.TemporaryDirectory() as folder, Progress(sys.stderr) as progress:
        out = Path(folder)
        task.run({}, out, Context(out, lambda event: progress.hear({"step": "fetch", **event})))
        return base_folder(Artifact(out, {}))
