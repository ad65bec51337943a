"""The mask and its proof: what is supervised on each row, shown to be what generation will have to produce.

The mask is made from the whole row; the proof asks separately what a prompt will look like when the model is used, and
compares token by token. A row that fails is named with its place in the client's file, before a minute of training is
spent.

| kind of row | tokens | supervised |
|---|---|---|
| messages | the conversation by the model's own template, up to the last answer's terminator | each assistant's message of `completion`, terminator included |
| completion | `begin`, prompt, completion, `end` | completion and `end` |
| text | `begin`, text, `end` | every token |
| preference, feedback | the prompt, and each completion as of a messages or a completion row | each completion, terminator included |
"""  # noqa: E501  a table

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast, overload

from tunewright.errors import BadInput
from tunewright.parts.engine import Continuation
from tunewright.parts.loader import Message, Tokenizer
from tunewright.parts.prompt_format import AnyExample, Example, Feedback, Preference, Text, said
from tunewright.parts.trainer import AnyRow, FeedbackRow, PairRow, TokenRow

IGNORED = -100
SHOWN = 120  # characters of a text that a message shows
EARLIER = "where a template renders earlier turns otherwise once the conversation goes on, use `learn: last`"


class MaskViolation(BadInput):
    """Rows whose supervised tokens are not what they must be; the message names each and prints its tokens."""


@dataclass(frozen=True)
class Span:
    """One token as text, and whether it bears a loss."""

    text: str
    supervised: bool


def prompt_ids(prompt: Text, tokenizer: Tokenizer) -> list[int]:
    """The tokens that a model is given when it is asked; evaluation, predict and the proof all use this.

    A conversation is rendered by the model's template, ready for the answer. Plain text stands after `begin` and
    nothing else: no template is put around it.
    """
    if isinstance(prompt, str):
        return [*tokenizer.begin, *tokenizer.encode(prompt)]
    return tokenizer.encode(tokenizer.render(prompt, generation_prompt=True))


# --- the mask


@overload
def tokenize(row_id: str, origin: str, example: Example, tokenizer: Tokenizer) -> TokenRow: ...
@overload
def tokenize(row_id: str, origin: str, example: Preference, tokenizer: Tokenizer) -> PairRow: ...
@overload
def tokenize(row_id: str, origin: str, example: Feedback, tokenizer: Tokenizer) -> FeedbackRow: ...
@overload
def tokenize(row_id: str, origin: str, example: AnyExample, tokenizer: Tokenizer) -> AnyRow: ...
def tokenize(row_id: str, origin: str, example: AnyExample, tokenizer: Tokenizer) -> AnyRow:
    """An example's row: of an `Example` a `TokenRow`, of a `Preference` a `PairRow`, of a `Feedback` a `FeedbackRow`.

    Nothing is cut to a length, and nothing is proven yet. Raises `BadInput` where a format gives a conversation for
    one half of an example and plain text for the other.
    """
    if isinstance(example, Preference):
        sides = [_ids(origin, example.prompt, side, tokenizer) for side in (example.chosen, example.rejected)]
        # of a template that renders one prompt in two ways, the proof finds the rest in the completions
        cut = min(len(prompt_ids(example.prompt, tokenizer)), _common(*sides))
        return PairRow(row_id, origin, sides[0][:cut], sides[0][cut:], sides[1][cut:])
    if isinstance(example, Feedback):
        ids = _ids(origin, example.prompt, example.completion, tokenizer)
        cut = len(prompt_ids(example.prompt, tokenizer))
        return FeedbackRow(row_id, origin, ids[:cut], ids[cut:], example.label)
    ids, labels = _masked(origin, example.prompt, example.completion, tokenizer)
    return TokenRow(row_id, origin, ids, ids[:] if example.prompt == "" else labels)


def _ids(origin: str, prompt: Text, completion: Text, tokenizer: Tokenizer) -> list[int]:
    return _masked(origin, prompt, completion, tokenizer)[0]


def _masked(origin: str, prompt: Text, completion: Text, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    if isinstance(prompt, str) and isinstance(completion, str):
        given = prompt_ids(prompt, tokenizer)
        # encoded apart, so that no token joins the end of the prompt with the beginning of what follows it
        learnt = [*tokenizer.encode(completion), tokenizer.end]
        return [*given, *learnt], [IGNORED] * len(given) + learnt
    if isinstance(prompt, str) or isinstance(completion, str):
        fix = "a format gives conversations for both, or plain text for both"
        raise BadInput(f"{origin}: one of prompt and completion is a conversation, the other is plain text", fix=fix)
    return _conversation(prompt, completion, tokenizer)


def _conversation(
    prompt: list[Message], completion: list[Message], tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """Each of the completion's answers is supervised from where generation would start to its terminator."""
    messages = [*prompt, *completion]
    ids = tokenizer.encode(tokenizer.render(messages, generation_prompt=False))
    labels, end = [IGNORED] * len(ids), len(ids)
    for place in _answers(prompt, completion):
        start = len(prompt_ids(messages[:place], tokenizer))
        # Templates go on after the terminator (ChatML's newline); generation never gets there, so it is not trained.
        end = next((at + 1 for at in range(start, len(ids)) if ids[at] in tokenizer.stops), len(ids))
        labels[start:end] = ids[start:end]
    return ids[:end], labels[:end]


def _answers(prompt: Sequence[Message], completion: Sequence[Message]) -> list[int]:
    """Where in the whole conversation the messages stand that are learnt."""
    return [len(prompt) + place for place, message in enumerate(completion) if message["role"] == "assistant"]


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens with which both begin."""
    shorter = min(len(first), len(second))
    return next((at for at in range(shorter) if first[at] != second[at]), shorter)


# --- the proof


def prove(
    rows: Sequence[AnyRow],
    examples: Sequence[AnyExample],
    tokenizer: Tokenizer,
    max_length: int | None,
    show: int = 3,
) -> None:
    """Prove every row. Raises `MaskViolation` that counts them all and shows the first `show` with their tokens.

    `max_length` in tokens bounds what the model reads at once; None where rows are packed afterwards.
    """
    bad = [
        (row, found)
        for row, example in zip(rows, examples, strict=True)
        if (found := list(violations(row, example, tokenizer, max_length)))
    ]
    if not bad:
        return
    shown = "\n".join(f"{row.origin}: {'; '.join(found)}\n  {view(row, tokenizer)}" for row, found in bad[:show])
    longest = max(length(row) for row, _ in bad)
    fix = "mend the rows, the format or the template"
    if max_length is not None and longest > max_length:
        fix = f"set `trainer.max_length: {longest}` or shorten the rows: nothing is cut silently"
    count = f"{len(bad)} of {len(rows)} rows cannot be trained on as they are"
    raise MaskViolation(f"{count} (supervised tokens stand in ⟦⟧):\n{shown}", fix=fix)


def refuse_unproven(tokens: AnyRow, example: AnyExample, tokenizer: Tokenizer) -> None:
    """Raise `BadInput` where a row's tokens are not what training on it would supervise."""
    found = list(violations(tokens, example, tokenizer, None))
    if found:
        raise BadInput(
            f"{tokens.origin}: it cannot be scored as it is: {'; '.join(found)}",
            fix="mend the row, the format or the template",
        )


def continuation(row_id: str, origin: str, example: Example, tokenizer: Tokenizer) -> Continuation:
    """What is supervised of an example, to be scored after all before it. Raises as `refuse_unproven`."""
    tokens = tokenize(row_id, origin, example, tokenizer)
    refuse_unproven(tokens, example, tokenizer)
    start = next(place for place, label in enumerate(tokens.labels) if label != IGNORED)
    return Continuation(tokens.ids[:start], tokens.ids[start:], origin)


def violations(row: AnyRow, example: AnyExample, tokenizer: Tokenizer, max_length: int | None) -> Iterator[str]:
    """Everything wrong with a row's mask, a sentence each. Raises `TypeError` where it is no row of that example."""
    if isinstance(row, TokenRow) and isinstance(example, Example):
        yield from _proof(row, example, tokenizer, max_length, whole=example.prompt == "")
    elif isinstance(row, PairRow) and isinstance(example, Preference):
        yield from _sides(row, example.prompt, [example.chosen, example.rejected], tokenizer, max_length)
        if row.chosen == row.rejected:
            yield "chosen and rejected are the same tokens: there is nothing to prefer"
    elif isinstance(row, FeedbackRow) and isinstance(example, Feedback):
        yield from _sides(row, example.prompt, [example.completion], tokenizer, max_length)
        if row.label is not example.label:
            yield f"its label is {row.label}, the example's is {example.label}"
    else:
        raise TypeError(f"a {type(row).__name__} is not made of a {type(example).__name__}")


def _sides(
    row: PairRow | FeedbackRow, prompt: Text, sides: Sequence[Text], tokenizer: Tokenizer, limit: int | None
) -> Iterator[str]:
    """Each completion is proven as a row of its own: the prompt and it, nothing but it supervised."""
    if not row.prompt:
        yield "the prompt has no token: the first token of a completion has nothing that it could follow from"
    for (name, one), side in zip(sequences(row).items(), sides, strict=True):
        if not side or not said(side).strip():
            yield f"{name}: it is empty"
        elif not isinstance(side, str) and len(side) > 1:
            yield f"{name}: it has {len(side)} messages: one answer is learnt, the turns before it are the prompt"
        else:
            proof = _proof(one, Example(prompt, side), tokenizer, limit, whole=False)
            yield from (f"{name}: {sentence}" for sentence in proof)


def _proof(row: TokenRow, example: Example, tokenizer: Tokenizer, limit: int | None, *, whole: bool) -> Iterator[str]:
    if len(row.labels) != len(row.ids):
        yield f"{len(row.labels)} labels for {len(row.ids)} tokens"
        return
    supervised = [place for place, label in enumerate(row.labels) if label != IGNORED]
    if not supervised:
        yield "no token is supervised"
        return
    if isinstance(example.prompt, str):
        yield from _plain(row, supervised, example, tokenizer, whole=whole)
    else:
        yield from _turns(row, supervised, example, tokenizer)
    if any(row.labels[place] != row.ids[place] for place in supervised):
        yield "a label differs from its token"
    if limit is not None and len(row.ids) > limit:
        yield f"{len(row.ids)} tokens, over `max_length` {limit}: the answer would be cut"


def _plain(
    row: TokenRow, supervised: list[int], example: Example, tokenizer: Tokenizer, *, whole: bool
) -> Iterator[str]:
    """Plain text: from the first token on, or from where the prompt ends."""
    prompt = prompt_ids(cast(str, example.prompt), tokenizer)
    yield from _starts_with(row.ids, prompt)
    yield from _one_run(supervised, 0 if whole else len(prompt), len(row.ids))
    learnt = [place for place in supervised if place >= len(prompt)]  # `begin` is no part of a text
    yield from _ends(row.ids, learnt or supervised, tokenizer)
    yield from _says([row.ids[place] for place in learnt[:-1]], example.answer, tokenizer)
    if not whole and any(row.ids[place] in tokenizer.stops for place in learnt[:-1]):
        yield "the completion holds a terminator: generation would end there"


def _turns(row: TokenRow, supervised: list[int], example: Example, tokenizer: Tokenizer) -> Iterator[str]:
    """A conversation: each answer from where generation would start to its terminator, nothing between them."""
    prompt, completion = cast("list[Message]", example.prompt), cast("list[Message]", example.completion)
    messages, places = [*prompt, *completion], _answers(prompt, completion)
    if not places or places[-1] != len(messages) - 1:
        yield "the last message is not the assistant's: it would not be learnt"
        return
    prompts = [prompt_ids(messages[:place], tokenizer) for place in places]
    ends = [*(len(next_one) for next_one in prompts[1:]), len(row.ids)]
    start = 0
    for number, (place, given, end) in enumerate(zip(places, prompts, ends, strict=True), 1):
        own = [at for at in supervised if start <= at < end]
        found = list(_answer(row, own, given, messages[place]["content"], tokenizer, last=number == len(places)))
        start = end
        if len(places) == 1:
            yield from found
        elif found:
            yield f"answer {number} of {len(places)}: {'; '.join(found)} ({EARLIER})"


def _answer(
    row: TokenRow, own: list[int], prompt: list[int], text: str, tokenizer: Tokenizer, *, last: bool
) -> Iterator[str]:
    if not own:
        yield "none of its tokens is supervised"
        return
    yield from _one_run(own, len(prompt), len(row.ids) if last else own[-1] + 1)
    yield from _starts_with(row.ids, prompt)
    yield from _ends(row.ids, own, tokenizer)
    yield from _says([row.ids[place] for place in own[:-1]], text, tokenizer)


def _one_run(supervised: list[int], start: int, end: int) -> Iterator[str]:
    first = supervised[0]
    if supervised != list(range(first, end)):
        yield "the supervised tokens are not one run up to the end"
    if first < start:
        yield f"{start - first} tokens of the prompt are supervised"
    elif first > start:
        yield f"the first {first - start} tokens of the answer are not supervised"


def _starts_with(ids: list[int], prompt: list[int]) -> Iterator[str]:
    if ids[: len(prompt)] != prompt:
        yield f"at token {_common(ids, prompt)} the row differs from the prompt that generation will start from"


def _ends(ids: list[int], supervised: list[int], tokenizer: Tokenizer) -> Iterator[str]:
    if ids[supervised[-1]] not in tokenizer.stops:
        yield "the terminator is not supervised: the model would not learn to stop"


def _says(ids: list[int], answer: str, tokenizer: Tokenizer) -> Iterator[str]:
    """Surrounding white space apart, and whether an accent is a character of its own: tokenizers change both."""
    learnt, wanted = (
        unicodedata.normalize("NFC", text).strip() for text in (tokenizer.decode(ids, special=True), answer)
    )
    if learnt != wanted:
        found, meant = _differing(learnt, wanted)
        yield f"the supervised text is {found}, the answer is {meant}"


def _differing(first: str, second: str) -> tuple[str, str]:
    """Both texts as a message shows them: whole, or of long ones what stands around the first difference."""
    if max(len(first), len(second)) <= SHOWN:
        return repr(first), repr(second)
    shorter = min(len(first), len(second))
    at = next((at for at in range(shorter) if first[at] != second[at]), shorter)
    begin = max(0, at - SHOWN // 4)
    shown = [f"{'…' if begin else ''}{text[begin : begin + SHOWN]!r}" for text in (first, second)]
    return shown[0], shown[1]


# --- what a person sees


def length(row: AnyRow) -> int:
    """Tokens that the model reads at once of a row: of a pair, the prompt and the longer completion."""
    return max(len(one.ids) for one in sequences(row).values())


def sequences(row: AnyRow) -> dict[str, TokenRow]:
    """What the model reads of a row, by name: one sequence, or of a pair `chosen` and `rejected`."""
    if isinstance(row, TokenRow):
        return {"row": row}
    named = {"completion": row.completion} if isinstance(row, FeedbackRow) else None
    sides = named or {"chosen": cast(PairRow, row).chosen, "rejected": cast(PairRow, row).rejected}
    return {
        name: TokenRow(row.row_id, row.origin, [*row.prompt, *side], [IGNORED] * len(row.prompt) + side)
        for name, side in sides.items()
    }


def spans(row: AnyRow, tokenizer: Tokenizer) -> list[Span]:
    """The row token by token, as a person reads it; a pair's two sequences one after the other, each named."""
    found: list[Span] = []
    for name, one in sequences(row).items():
        if isinstance(row, PairRow):
            found.append(Span(f"\n{name}: " if found else f"{name}: ", False))
        pairs = zip(one.ids, one.labels, strict=False)
        found += [Span(tokenizer.decode([token], special=True), label != IGNORED) for token, label in pairs]
    return found


def view(row: AnyRow, tokenizer: Tokenizer) -> str:
    """The row as one text, tokens parted by `|`, supervised ones between ⟦ and ⟧; a pair's completions a line each."""
    lines = []
    for name, one in sequences(row).items():
        shown = "|".join(
            f"⟦{span.text}⟧" if span.supervised else span.text.replace("\n", "⏎") for span in spans(one, tokenizer)
        )
        lines.append({"row": "", "completion": _wanted(row)}.get(name, f"{name}: ") + shown)
    return "\n  ".join(lines)


def _wanted(row: AnyRow) -> str:
    return "" if not isinstance(row, FeedbackRow) else "wanted: " if row.label else "unwanted: "
