"""The mask and its proof: what is supervised on each row, shown to be what generation will have to produce.

The mask is made from the whole conversation; the proof asks separately what a prompt will look like when the model
is used, and compares token by token. A row that fails is named with its place in the client's file, before a minute
of training is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunewright.errors import BadInput
from tunewright.parts.loader import Message, Tokenizer
from tunewright.parts.prompt_format import Example
from tunewright.parts.trainer import TokenRow

IGNORED = -100


class MaskViolation(BadInput):
    """Rows whose supervised tokens are not what they must be; the message names each and prints its tokens."""


@dataclass(frozen=True)
class Span:
    """One token as text, and whether it bears a loss."""

    text: str
    supervised: bool


def prompt_ids(prompt: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The tokens that a model is given when it is asked; evaluation, predict and the proof all use this."""
    return tokenizer.encode(tokenizer.render(prompt, generation_prompt=True))


def tokenize(row_id: str, origin: str, example: Example, tokenizer: Tokenizer) -> TokenRow:
    """The conversation up to the answer's terminator, the answer and the terminator supervised."""
    ids = tokenizer.encode(tokenizer.render([*example.prompt, *example.completion], generation_prompt=False))
    start = len(prompt_ids(example.prompt, tokenizer))
    # Templates go on after the terminator (ChatML's newline); generation never gets there, so it is not trained.
    end = next((place + 1 for place in range(start, len(ids)) if ids[place] in tokenizer.stops), len(ids))
    ids = ids[:end]
    return TokenRow(row_id, origin, ids, [IGNORED] * min(start, end) + ids[start:])


def violations(row: TokenRow, example: Example, tokenizer: Tokenizer, max_length: int) -> Iterator[str]:
    """Everything wrong with a row's mask, a sentence each."""
    if len(row.labels) != len(row.ids):
        yield f"{len(row.labels)} labels for {len(row.ids)} tokens"
        return
    supervised = [place for place, label in enumerate(row.labels) if label != IGNORED]
    if not supervised:
        yield "no token is supervised"
        return
    prompt = prompt_ids(example.prompt, tokenizer)
    yield from _boundary(row, supervised, prompt)
    if any(row.labels[place] != row.ids[place] for place in supervised):
        yield "a label differs from its token"
    if row.ids[supervised[-1]] not in tokenizer.stops:
        yield "the terminator is not supervised: the model would not learn to stop"
    learnt = tokenizer.decode([row.ids[place] for place in supervised[:-1]], special=True)
    if learnt.strip() != example.answer.strip():
        yield f"the supervised text is {learnt.strip()!r}, the answer is {example.answer.strip()!r}"
    if len(row.ids) > max_length:
        yield f"{len(row.ids)} tokens, over `max_length` {max_length}: the answer would be cut"


def _boundary(row: TokenRow, supervised: list[int], prompt: list[int]) -> Iterator[str]:
    start = supervised[0]
    if supervised != list(range(start, len(row.ids))):
        yield "the supervised tokens are not one run up to the end"
    if start < len(prompt):
        yield f"{len(prompt) - start} tokens of the prompt are supervised"
    elif start > len(prompt):
        yield f"the first {start - len(prompt)} tokens of the answer are not supervised"
    if row.ids[: len(prompt)] != prompt:
        place = next((i for i, (a, b) in enumerate(zip(row.ids, prompt, strict=False)) if a != b), len(row.ids))
        yield f"at token {place} the row differs from the prompt that generation will start from"


def spans(row: TokenRow, tokenizer: Tokenizer) -> list[Span]:
    """The row token by token, as a person reads it."""
    return [
        Span(tokenizer.decode([token], special=True), label != IGNORED)
        for token, label in zip(row.ids, row.labels, strict=False)
    ]


def view(row: TokenRow, tokenizer: Tokenizer) -> str:
    """The row as one text, tokens parted by `|`, supervised ones between ⟦ and ⟧."""
    return "|".join(
        f"⟦{span.text}⟧" if span.supervised else span.text.replace("\n", "⏎") for span in spans(row, tokenizer)
    )


def prove(
    rows: Sequence[TokenRow], examples: Sequence[Example], tokenizer: Tokenizer, max_length: int, show: int = 3
) -> None:
    """Prove every row. Raises `MaskViolation` that counts them all and shows the first `show` with their tokens."""
    bad = [
        (row, found)
        for row, example in zip(rows, examples, strict=True)
        if (found := list(violations(row, example, tokenizer, max_length)))
    ]
    if not bad:
        return
    shown = "\n".join(f"{row.origin}: {'; '.join(found)}\n  {view(row, tokenizer)}" for row, found in bad[:show])
    longest = max(len(row.ids) for row, _ in bad)
    fix = "mend the rows, the format or the template"
    if longest > max_length:
        fix = f"set `trainer.max_length: {longest}` or shorten the rows: nothing is cut silently"
    count = f"{len(bad)} of {len(rows)} rows cannot be trained on as they are"
    raise MaskViolation(f"{count} (supervised tokens stand in ⟦⟧):\n{shown}", fix=fix)
