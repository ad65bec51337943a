"""What the spec's own sections must be to each other, whatever fills them."""

from __future__ import annotations

from collections.abc import Iterator

from tunewright.spec.document import Document
from tunewright.spec.model import Spec
from tunewright.spec.problems import Problem


def structure(spec: Spec, document: Document) -> list[Problem]:
    """A training to do, rows to do it on, and stages that can be told apart."""
    return [*_what_trains(spec, document), *_what_is_learnt(spec, document), *_stage_names(spec, document)]


def _what_trains(spec: Spec, document: Document) -> Iterator[Problem]:
    if spec.trainer is None and not spec.stages:
        yield Problem("missing-key", "the spec needs `trainer`", document.at(()), "add `trainer:`")
    if spec.trainer is not None and spec.stages:
        place = document.at(("trainer",), prefer_key=True)
        yield Problem(
            "bad-value", "`trainer` and `stages` are both written: each stage has its own", place, "remove it"
        )


def _what_is_learnt(spec: Spec, document: Document) -> Iterator[Problem]:
    if spec.data.train or (spec.stages and all(stage.data and stage.data.train for stage in spec.stages)):
        return
    if ("data", "train") in document.values:
        yield Problem("empty-list", "`train` has no source", document.at(("data", "train")), "add a source of rows")
    else:
        place = document.at(("data",), prefer_key=True)
        yield Problem("missing-key", "the spec needs `data.train`", place, "add `train:`")


def _stage_names(spec: Spec, document: Document) -> Iterator[Problem]:
    names = [stage.name for stage in spec.stages]
    for place, name in enumerate(names):
        if name in names[:place]:
            where = document.at(("stages", place, "name"))
            yield Problem("duplicate-name", f"two stages are called `{name}`", where, "give one another `name:`")
    if spec.stages and ("stages", 0, "adapter") in document.values:
        where = document.at(("stages", 0, "adapter"), prefer_key=True)
        yield Problem("bad-value", "nothing comes before the first stage that `adapter` could mean", where, "remove it")
