"""A base with several adapters beside it, asked in any order: what an engine that serves many clients does.

Every engine can: by default it opens the base with one adapter after the other (`InTurn`). One whose server holds them
all at once overrides `Engine.open_several`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tunewright.errors import BadInput
from tunewright.parts.prompt_format import Text
from tunewright.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from tunewright.parts.engine import Completion, Subject

Progress = Callable[[int], None]


class Asked(NamedTuple):
    """A prompt, and the name of the adapter that is to answer it; None for the base itself."""

    prompt: Text
    adapter: str | None = None


class Several(Protocol):
    """The base and its adapters. Greedy decoding: what else is asked beside a prompt changes no answer."""

    def complete(
        self, asked: Sequence[Asked], limit: int, progress: Progress | None = None, *, together: bool = True
    ) -> list[Completion]:
        """One answer a prompt, in order, each by its own adapter; one limit for all, the rest as `Subject.complete`.

        Raises `BadInput` for an adapter that is not there, before anything is asked: no other one answers for it.
        """
        ...


class InTurn:
    """Opens what is asked for, one after the other: right for every engine, and loads the base anew each time."""

    def __init__(
        self, open_one: Callable[[str | None], AbstractContextManager[Subject]], adapters: Collection[str]
    ) -> None:
        self._open, self._adapters = open_one, adapters

    def complete(
        self, asked: Sequence[Asked], limit: int, progress: Progress | None = None, *, together: bool = True
    ) -> list[Completion]:
        """As `Several.complete`."""
        refuse_unknown(asked, self._adapters)
        answers: dict[int, Completion] = {}
        for adapter in dict.fromkeys(one.adapter for one in asked):
            places = [place for place, one in enumerate(asked) if one.adapter == adapter]
            prompts = [asked[place].prompt for place in places]
            before = len(answers)
            hear = None if progress is None else _counted(progress, before)
            with self._open(adapter) as subject:
                found = subject.complete(prompts, limit, hear, together=together)
            answers.update(zip(places, found, strict=True))
        return [answers[place] for place in range(len(asked))]


def refuse_unknown(asked: Sequence[Asked], adapters: Collection[str]) -> None:
    """Raise `BadInput` where an adapter is asked that is not there."""
    for one in asked:
        if one.adapter is not None and one.adapter not in adapters:
            message = f"no adapter `{one.adapter}` is open beside this base"
            raise BadInput(message, fix=did_you_mean(one.adapter, adapters) or "open it, or ask the base")


def _counted(progress: Progress, before: int) -> Progress:
    return lambda done: progress(before + done)
