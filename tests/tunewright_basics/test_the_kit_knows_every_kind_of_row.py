"""The conformance kit checks a format by the kind of row that it makes, and its own sample is sound in every kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, get_args

import pytest
from pydantic import Field

from tunewright.data.mask import prove, tokenize
from tunewright.errors import BadInput
from tunewright.parts import Options, PromptFormat
from tunewright.parts.prompt_format import Example, Feedback, Preference, RowKind
from tunewright.testing import NonConforming, check_prompt_format
from tunewright.testing.samples import ROWS, example


class MadeOptions(Options):
    kind: str = "made"
    before: Annotated[str, Field(description="Words before each prompt.")] = "Route"


class Made(PromptFormat[MadeOptions]):
    """Whatever `build` makes of a question and a label."""

    kind, Options = "made", MadeOptions
    reads = frozenset({"before"})
    vary: ClassVar = {"before": ("Route", "Sort")}
    makes = "preference"

    def columns(self):
        return {"text": "kind", "label": "kind"}

    def prompt_columns(self):
        return frozenset({"text"})

    def prompt(self, fields):
        return [{"role": "user", "content": f"{self.options.before}: {value(fields, 'text')}"}]

    def example(self, fields):
        return self.build(self.prompt(fields), value(fields, "label"))

    def build(self, prompt, label):
        return Preference(prompt, said(label), said(f"not {label}"))


def value(fields, column):
    if not isinstance(fields.get(column), str) or not fields[column].strip():
        raise BadInput(f"the row has no text in `{column}`")
    return fields[column]


def said(text):
    return [{"role": "assistant", "content": text}]


class Judged(Made):
    makes = "feedback"

    def build(self, prompt, label):
        return Feedback(prompt, said(label), len(label) % 2 == 0)


class Plain(Made):
    makes = "completion"

    def prompt(self, fields):
        return f"{self.options.before}: {value(fields, 'text')}"

    def build(self, prompt, label):
        return Example(prompt, label)


class Whole(Plain):
    makes = "text"

    def build(self, prompt, label):
        return Example("", f"{prompt} {label}")


class Talk(Made):
    """Learns both of two answers."""

    makes = "messages"

    def prompt(self, fields):
        return [*super().prompt(fields), *said("Well?"), {"role": "user", "content": "Now."}]

    def build(self, prompt, label):
        return Example(prompt[:1], [*prompt[1:], *said(label)])


@pytest.mark.parametrize("backend", [Made, Judged, Plain, Whole, Talk])
def test_a_sound_format_of_each_kind_passes(backend, tmp_path):
    check_prompt_format(backend, folder=tmp_path)


def broken(base, build):
    return type(f"Broken{base.__name__}", (base,), {"build": staticmethod(build), "__module__": base.__module__})


BROKEN = {
    "an Example for a pair": (Made, lambda p, label: Example(p, said(label)), "`preference` rows are made of Pref"),
    "a pair for an Example": (Talk, lambda p, label: Preference(p, said(label), said("")), "are made of Examples"),
    "plain and conversation": (Made, lambda p, label: Preference(p, said(label), label), "mixes conversations"),
    "a side that is nothing": (Made, lambda p, label: Preference(p, said(label), []), "has no rejected"),
    "a side of two turns": (Made, lambda p, label: Preference(p, said(label), said(label) * 2), "has 2 messages"),
    "a side by the user": (
        Made, lambda p, label: Preference(p, said(label), [{"role": "user", "content": label}]), "ends with the user's",
    ),
    "a label in words": (Judged, lambda p, label: Feedback(p, said(label), label), "must be true or false"),
    "messages as text": (Talk, lambda p, label: Example("x", label), "`messages` rows are conversations"),
    "a completion as messages": (Plain, lambda p, label: Example(p, said(label)), "must be plain text"),
    "a text with a prompt": (Whole, lambda p, label: Example(p, label), "their `prompt` is empty"),
    "an empty completion": (Plain, lambda p, label: Example(p, label[:0]), "has no completion"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_format_that_makes_other_rows_than_it_says_is_told(name, tmp_path):
    base, build, says = BROKEN[name]
    with pytest.raises(NonConforming, match=says) as caught:
        check_prompt_format(broken(base, build), folder=tmp_path)
    assert "bad-contract" in caught.value.codes


def test_a_pair_that_asks_otherwise_than_in_use_is_told(tmp_path):
    def build(prompt, label):
        return Preference([{"role": "system", "content": "Train."}, *prompt], said(label), said("no"))

    with pytest.raises(NonConforming) as caught:
        check_prompt_format(broken(Made, build), folder=tmp_path)
    assert caught.value.codes == {"prompt-differs"}


@pytest.mark.parametrize("kind", get_args(RowKind))
def test_the_kits_own_rows_are_sound_in_every_kind(kind, fakes):
    from tunewright_fakes import FakeTokenizer

    examples = [example(fields, kind) for fields in ROWS]
    rows = [tokenize(str(n), f"kit.csv:{n}", one, FakeTokenizer()) for n, one in enumerate(examples, 2)]
    prove(rows, examples, FakeTokenizer(), 200)
    if kind == "feedback":
        assert {one.label for one in examples} == {True, False}
