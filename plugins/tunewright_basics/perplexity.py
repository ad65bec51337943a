"""`perplexity`: how little the held-out texts, or answers, surprise the model."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from tunewright.data.mask import IGNORED, refuse_unproven, tokenize
from tunewright.errors import BadInput, WorkFailed
from tunewright.parts import Evaluator
from tunewright.parts.engine import Continuation, Subject
from tunewright.parts.evaluator import Graded, Item, OfSums, Progress, ScoringOptions, Summary, TestRow
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Example
from tunewright.parts.trainer import TokenRow
from tunewright_basics.scored import example_of, given, item_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class PerplexityOptions(ScoringOptions):
    """Options of perplexity."""

    kind: str = "perplexity"
    max_length: Annotated[
        int,
        Field(
            ge=2,
            description="Most tokens that the model reads at once; a longer text is cut into windows without overlap, "
            "a longer row with a prompt is an error.",
        ),
    ] = 512


class Perplexity(Evaluator[PerplexityOptions]):
    """Scores every token that training on the row would supervise: a whole text, or of a row with a prompt the answers.

    `perplexity` is exp(nats / tokens) over all rows together, so that a long row counts as long as it is; `nll` is
    nats / tokens. The first token of a text follows nothing and is not scored (where the model has a BOS, that is it).

    A text of more than `max_length` tokens is cut into windows. Each is read by itself, after the last token of the
    one before and nothing else, so every token is scored exactly once; the first ones of a window are harder than they
    are in the whole text. Perplexities compare at one `max_length` and one tokenizer only. The grades of a row are its
    `nll` in nats, its scored `tokens` and its `windows`.

    Source: Jelinek et al., Perplexity: a measure of the difficulty of speech recognition tasks, JASA 62 (1977); on
    windows, "Perplexity of fixed-length models" in the documentation of transformers.
    """

    kind = "perplexity"
    Options: ClassVar = PerplexityOptions
    consumes = ("text", "completion", "messages")
    asks = False
    reads = frozenset({"max_length"})
    vary: ClassVar = {"max_length": (24, 512)}

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        for row in data:
            example_of(self, row, Example)
            yield item_of(row)

    def measure(self, subject: Subject, data: Sequence[TestRow], progress: Progress) -> list[Graded]:
        pieces = [self._pieces(row, subject.tokenizer) for row in data]
        flat = [piece for some in pieces for piece in some]
        scores = iter(subject.score(flat, lambda done: progress(done, len(flat))))
        return [self._graded(row, some, [next(scores) for _ in some]) for row, some in zip(data, pieces, strict=True)]

    def _graded(self, row: TestRow, pieces: Sequence[Continuation], scores: Sequence[Sequence[float]]) -> Graded:
        ids = [token for piece in pieces for token in piece.answer]
        nats = -math.fsum(value for some in scores for value in some)
        grades = {"nll": nats, "tokens": float(len(ids)), "windows": float(len(pieces))}
        item = item_of(row)
        return Graded(item, given(item, pieces[0].prompt, ids), grades)

    def _pieces(self, row: TestRow, tokenizer: Tokenizer) -> list[Continuation]:
        example, limit = example_of(self, row, Example), self.options.max_length
        tokens = tokenize(row.id, row.origin, example, tokenizer)
        refuse_unproven(tokens, example, tokenizer)
        if len(tokens.ids) <= limit:
            pieces = list(_answers(tokens))
        elif example.prompt == "":
            pieces = list(_windows(tokens, limit))
        else:
            raise BadInput(
                f"{row.origin}: prompt and answer have {len(tokens.ids):,} tokens, `max_length` is {limit:,}",
                fix=f"set `max_length: {len(tokens.ids)}` or more in `{self.name}`: only plain texts are cut",
            )
        if not pieces:
            raise BadInput(f"{row.origin}: a text of one token has nothing to score", fix="leave the row out")
        return pieces

    def summaries(self) -> Mapping[str, Summary]:
        return {"perplexity": perplexity, "nll": mean_nll}

    def lower_is_better(self) -> frozenset[str]:
        return frozenset(self.summaries())


def _nats_and_tokens(graded: Sequence[Graded]) -> Floats:
    import numpy as np

    return np.array([[g.grades["nll"], g.grades["tokens"]] for g in graded])


def _a_token(sums: Floats) -> Floats:
    return sums[:, 0] / sums[:, 1]


def _exp_a_token(sums: Floats) -> Floats:
    import numpy as np

    nats = _a_token(sums)
    if nats.max() > math.log(sys.float_info.max):
        fix = "its weights are damaged, or fp16 overflows: see `nll` of the rows"
        raise WorkFailed(f"the texts have {nats.max():,.0f} nats a token, of which no perplexity can be made", fix=fix)
    found: Floats = np.exp(nats)
    return found


mean_nll = OfSums(_nats_and_tokens, _a_token)
"""Nats a token, over all rows together."""
perplexity = OfSums(_nats_and_tokens, _exp_a_token)
"""exp of nats a token: among how many tokens, equally likely, the model in effect has to choose."""


def _answers(row: TokenRow) -> Iterator[Continuation]:
    """Each run of supervised tokens, after all that stands before it. The first token of a row is in none."""
    start = None
    for place, label in enumerate([*row.labels, IGNORED]):
        if place == 0 or (label == IGNORED) == (start is None):
            continue
        if start is None:
            start = place
        else:
            yield Continuation(row.ids[:start], row.ids[start:place], row.origin)
            start = None


def _windows(row: TokenRow, length: int) -> Iterator[Continuation]:
    """At most `length` tokens each, of which the first is the last of the window before."""
    for at in range(0, len(row.ids) - 1, length - 1):
        yield Continuation(row.ids[at : at + 1], row.ids[at + 1 : at + length], row.origin)
