"""What lm_eval takes for its model: the subject that the engine opened, and nothing else. It loads no weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tunewright.errors import BadInput, Refused
from tunewright.parts.engine import Completion, Continuation, Likeliest, Subject
from tunewright.parts.evaluator import Progress
from tunewright_lmeval.conversation import Conversation, rendered
from tunewright_lmeval.questions import item_id, longest_of, origin_of

Asked = tuple[tuple[str, str], list[int], list[int]]
"""A context and what comes after it, as text and as tokens."""


class SubjectModel(TemplateLM):
    """Scores and generates by a `Subject`, on the tokens that lm_eval's own `HFLM` would make of the same texts.

    `longest` bounds an answer in tokens, `window` what is read at once of a whole text; `greedy` are the tasks in which
    it counts whether a text is what the model itself would have said. `answers` holds what was said to each item, or
    the likeliest of what was scored, and `likely` how likely each of it was, in nats.
    """

    def __init__(
        self,
        subject: Subject,
        longest: int,
        window: int,
        greedy: frozenset[str],
        progress: Progress,
        total: int,
        aloud: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__()
        self.subject, self.longest, self.window, self.greedy = subject, longest, window, greedy
        self.progress, self.total, self.aloud, self.done = progress, total, aloud, 0
        self.answers: dict[str, Completion] = {}
        self.likely: dict[str, list[float]] = {}
        self.asked: list[Any] = []
        self.failed: BaseException | None = None
        """What the engine raised: no fault of the task's."""

    @contextmanager
    def _engine(self) -> Iterator[Subject]:
        try:
            with self.aloud():
                yield self.subject
        except Exception as error:
            self.failed = error
            raise

    def _note(self, request: Any, answer: Completion, likely: float = 0.0) -> None:
        """Keep what was said or scored for a document: of several choices the likeliest."""
        name = item_id(request)
        before = self.likely.setdefault(name, [])
        if not before or likely > max(before):
            self.answers[name] = answer
        before.append(likely)

    def tied(self, item: str) -> bool:
        """Whether the likeliest of an item's choices are equally likely."""
        return self.likely[item].count(max(self.likely[item])) > 1

    # --- tokens

    @property
    def eot_token_id(self) -> int:
        return self.subject.tokenizer.end

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it: the tokenizer's BOS, even one that it does not set
        by itself, else its end. As `HFLM` does it."""
        tokenizer = self.subject.tokenizer
        bos = getattr(tokenizer.native, "bos_token_id", None)
        return bos if isinstance(bos, int) else next(iter(tokenizer.begin), tokenizer.end)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """A text's tokens after `begin`; a template that writes its BOS itself gets no second one."""
        tokenizer = self.subject.tokenizer
        bos = tokenizer.decode([self.prefix_token_id], special=True)
        bare = add_special_tokens is False or (add_special_tokens is None and bos and string.startswith(bos))
        return [*([] if bare else tokenizer.begin), *tokenizer.encode(string)]

    # --- what lm_eval asks

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return rendered(self.subject.tokenizer, chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        return self.subject.identity

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Of each request the log-probability in nats of what comes after its context, and whether it is what the
        model would have said itself."""
        self.asked = requests
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(
        self, requests: list[Asked], disable_tqdm: bool = True, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        rows = [
            Continuation(context, after, _origin(request))
            for request, (_, context, after) in zip(self.asked, requests, strict=True)
        ]
        for row in rows:
            if not row.answer:
                raise BadInput(f"{row.origin}: there is nothing to score after the prompt", fix="mend the document")
        with self._engine() as subject:
            sums = [math.fsum(values) for values in subject.score(rows, self._hear)]
            agreed = self._agreed(rows)
        self.done += len(rows)
        for request, ((context, text), *_), row, likely in zip(self.asked, requests, rows, sums, strict=True):
            if context or request.idx == 0:  # a choice without its question is no answer
                self._note(request, Completion(row.answer, text, "given", row.prompt), likely)
        return list(zip(sums, agreed, strict=True))

    def _agreed(self, rows: Sequence[Continuation]) -> list[bool]:
        """Whether each token is the likeliest in its place; of tasks that never look at it False, and nothing is asked.

        Raises `Refused` where a task looks at it and the engine cannot tell.
        """
        wanted = [place for place, request in enumerate(self.asked) if request.task_name in self.greedy]
        if not wanted:
            return [False] * len(rows)
        if not isinstance(self.subject, Likeliest):
            task = self.asked[wanted[0]].task_name
            raise Refused(
                f"task `{task}` counts whether a text is what the model would say itself, and the engine tells no "
                "likeliest tokens",
                fix="leave `engine` out, or choose other `metrics`",
            )
        likeliest = self.subject.likeliest([rows[place] for place in wanted], 1)
        same = {
            place: all(token in best for token, best in zip(rows[place].answer, found, strict=True))
            for place, found in zip(wanted, likeliest, strict=True)
        }
        return [same.get(place, False) for place in range(len(rows))]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Of each request's whole text the log-probability in nats, its first token given the prefix token."""
        pieces = [self._windows(request) for request in requests]
        flat = [piece for some in pieces for piece in some]
        with self._engine() as subject:
            scores = iter(subject.score(flat))
        self.done += len(requests)
        self._hear(0)
        for request, some in zip(requests, pieces, strict=True):
            ids = [token for piece in some for token in piece.answer]
            self._note(request, Completion(ids, request.args[0], "given", some[0].prompt))
        return [math.fsum(value for _ in some for value in next(scores)) for some in pieces]

    def _windows(self, request: Any) -> list[Continuation]:
        """As lm_eval cuts a text: every token is scored once, and the last window reads as much as it can."""
        ids = self.tok_encode(request.args[0])
        if not ids:
            raise BadInput(f"{_origin(request)}: the text is empty", fix="mend the document")
        windows = get_rolling_token_windows(
            token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=self.window, context_len=1
        )
        parted = map(make_disjoint_window, windows)
        return [Continuation(context, after, _origin(request)) for context, after in parted]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """The greedy answer to each request, cut before the first of its stop strings.

        An engine knows no stop strings: each answer is made to its end or its limit, which costs time and changes
        nothing of what stands before them.
        """
        found = []
        limits = [min(self.longest, longest_of(request.args[1]) or self.longest) for request in requests]
        prompts = [self._prompt(request.args[0]) for request in requests]
        with self._engine() as subject:
            answers = subject.complete(prompts, limits, self._hear)
        self.done += len(requests)
        for request, answer in zip(requests, answers, strict=True):
            found.append(_cut(answer.text, request.args[1].get("until")))
            self._note(request, replace(answer, text=found[-1]))
        return found

    def _prompt(self, context: str) -> Any:
        """A conversation goes to the engine as one, so that a server is asked as its clients ask it."""
        if isinstance(context, Conversation) and not context.begun:
            return context.messages
        bos = self.subject.tokenizer.decode(self.subject.tokenizer.begin, special=True)
        return str(context).removeprefix(bos)  # the engine sets it before every plain text

    def _hear(self, done: int) -> None:
        self.progress(self.done + done, self.total)


def _origin(request: Any) -> str:
    return origin_of(request.task_name, request.doc_id)


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    """What stands before the first stop string."""
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            text = text.partition(stop)[0]
    return text
