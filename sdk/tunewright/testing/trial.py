"""How every check goes: the class, its import, two uses of a sample, bad input, other options."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import ValidationError

from tunewright.errors import TunewrightError
from tunewright.parts import Backend
from tunewright.testing import contract, fields, state
from tunewright.testing.compare import difference
from tunewright.testing.desk import Desk, watched
from tunewright.testing.violations import Report

Make = Callable[..., Any]
"""`make(path=other)`: the backend with some options changed."""
ALLOWED = (TunewrightError, ValidationError)
"""What a backend may raise: everything else is a traceback in a client's terminal."""
FOREIGN = (Exception, SystemExit)
CACHE = "TUNEWRIGHT_CACHE"
NUMBERED = re.compile(r"\b\d{4}-(?=[a-z])")


class Attempt(NamedTuple):
    """A use with bad input, in words, and the call: it may refuse, in Tunewright's own errors, or cope."""

    what: str
    call: Callable[[], object]


class Exercise(ABC):
    """What the kit does with a backend of one part."""

    part: ClassVar[str]
    draws: ClassVar[tuple[str, ...]] = ()
    """Which of the process's generators the part may draw from; the core seeds them before it is used."""

    shows_arguments: ClassVar[bool] = False
    """Whether the library's arguments can be seen in what the part makes, and so must be."""

    def prepare(self, desk: Desk) -> None:  # noqa: B027  most need nothing
        """Whatever must be there before the backend is watched."""

    @abstractmethod
    def run(self, made: Any, desk: Desk, report: Report) -> Any:
        """Use it as the core does, note what breaks the part's contract, and give back all that could be seen of it.

        What is given back is plain data: equal runs must give equal data, other options other data.
        """

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        """Uses with bad input."""
        return iter(())


class Trial:
    """One check of one backend."""

    def __init__(self, backend: type[Backend], given: Mapping[str, Any], exercise: Exercise, folder: Path) -> None:
        self.backend, self.given, self.exercise = backend, dict(given), exercise
        self.desk, self.report = Desk(folder), Report()

    def run(self) -> None:
        """Everything. Raises `NonConforming` with all that was found."""
        if contract.is_whole(self.backend, self.exercise.part, self.report):
            contract.check_class(self.backend, self.report)
            if contract.check_options(self.backend, self.given, self.report):
                contract.check_import(self.backend, self.given, self.report)
                self._use()
        self.report.conclude(_subject(self.backend, self.exercise.part))

    def _use(self) -> None:
        self.exercise.prepare(self.desk)
        options = fields.read(self.backend, self.given)
        self._guarded("asked what it offers and needs", partial(self._words, options))
        first = self._observe(options, self.report)
        if isinstance(first, Refusal):
            fix = "give the check options and a sample that suit it"
            self.report.add("sample-refused", f"it refuses what the kit gives it: {first.message}; {fix}")
            return
        if isinstance(first, Crash):
            return
        second = self._observe(options, self.report)
        where = difference(first, second)
        says = f"two equal uses differ: {where}; equal options, input and seed must give equal results"
        self.report.expect(not where, "non-deterministic", says)
        self._abuse()
        for name in contract.own_fields(self.backend):
            self._vary(name, options, first)

    def _words(self, options: Any) -> None:
        contract.check_words(self.backend(options), self.report)

    def _observe(self, options: Any, report: Report) -> Any:
        """All that can be seen of one use. Surroundings that it disturbs are noted, and put in order again."""
        before, libraries, outside = state.snapshot(self.exercise.draws), _libraries(), list[str]()
        try:
            with self._empty_cache(), watched(self.desk, outside):
                return self.exercise.run(self.backend(options), self.desk, report)
        except ALLOWED as error:
            return Refusal(_words(error))
        except FOREIGN as error:
            self._foreign("used as the core uses it", error)
            return Crash(_words(error))
        finally:
            self._surroundings(before, libraries, outside)

    def _surroundings(self, before: Mapping[str, Any], libraries: set[str], outside: list[str]) -> None:
        state.settle(before)
        after = state.snapshot(self.exercise.draws)
        if _libraries() != libraries:
            # what a library does when it is imported is not the backend's: the next use tells
            outside = [what for what in outside if tempfile.gettempdir() not in what]
        else:
            for left in state.differences(before, after):
                self.report.add("state-left-behind", f"it changes {left}, which the whole process shares: put it back")
        state.restore(before)
        for what in outside:
            fix = "write in the folder that it is given, or in a temporary one that it removes"
            self.report.add("writes-outside", f"{NUMBERED.sub('', what)}: {fix}")

    def _abuse(self) -> None:
        def make(**changes: Any) -> Any:
            return self.backend(self.backend.Options.model_validate({**self.given, **changes}))

        before, outside = state.snapshot(), list[str]()
        with self._empty_cache(), watched(self.desk, outside):
            self._guarded("used once more", lambda: self._attempt(self.exercise.abuse(make, self.desk)))
        state.settle(before)
        state.restore(before)
        for what in outside:
            self.report.add("writes-outside", f"{NUMBERED.sub('', what)}, given bad input: leave nothing behind")

    def _attempt(self, attempts: Iterator[Attempt]) -> None:
        for attempt in attempts:
            self._guarded(f"given {attempt.what}", attempt.call)

    @contextmanager
    def _empty_cache(self) -> Iterator[None]:
        """The user's cache of bases is a new folder, which may be written in: nothing is known from an earlier use."""
        before = os.environ.get(CACHE)
        os.environ[CACHE] = str(self.desk.give("cache"))
        try:
            yield
        finally:
            del os.environ[CACHE]
            if before is not None:
                os.environ[CACHE] = before

    def _guarded(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except ALLOWED:
            return
        except FOREIGN as error:
            self._foreign(what, error)

    def _foreign(self, what: str, error: BaseException) -> None:
        place = _place(error, self.backend)
        if not place:  # none of its own lines was running: the kit stumbled over what it had given back
            self.report.add("bad-contract", f"what it gives back is not what its contract says: {_words(error)}")
            return
        fix = "raise a TunewrightError (`BadInput`, `Refused`, `WorkFailed` …) that says what, where and what to do"
        self.report.add("foreign-exception", f"{what}, it raises {_words(error)}{place}; {fix}")

    def _vary(self, name: str, options: Any, first: Any) -> None:
        marked = contract.marks(self.backend, name)
        if not marked and name not in self.backend.reads:
            says = f"the field `{name}` is neither marked with `To` nor named in `reads`: what it does, nobody can tell"
            self.report.add("idle-field", says)
            return
        pairs = fields.variations(self.backend, self.given, name)
        if not pairs:
            says = f"the field `{name}` has no two values that Options take: add `vary = {{{name!r}: (…, …)}}`"
            self.report.add("no-values-to-vary", says)
            return
        if contract.unkeyed(self.backend, name):
            both = [self._again(options) for options in pairs[0]]
            if any(isinstance(found, Refusal) for found in both):
                return  # one of the two does not go with the options that were given: there is nothing to compare
            where = difference(*both)
            says = f"`{name}` is marked `Unkeyed`, and two values of it give different results: {where}"
            self.report.expect(not where, "unkeyed-changes-results", f"{says}; what is kept would be reused wrongly")
        elif marked and not any(difference(self._arguments(one), self._arguments(other)) for one, other in pairs):
            self._without_effect(name, "the library's arguments", pairs[0])
        elif not marked or self.exercise.shows_arguments:
            seen = ((first if one == options else self._again(one), self._again(other)) for one, other in pairs)
            if not any(difference(one, other) for one, other in seen):
                self._without_effect(name, "anything that it gives back", pairs[0])

    def _again(self, options: Any) -> Any:
        """What can be seen with other options; of the part's own rules, the first uses have told."""
        return self._observe(options, Report())

    def _without_effect(self, name: str, where: str, pair: tuple[Any, Any]) -> None:
        tried = " and ".join(f"`{getattr(options, name)!r}`" for options in pair)
        says = f"`{name}` makes no difference to {where} ({tried}): use it, or name two values in `vary` that do"
        self.report.add("field-reaches-nothing", says)

    def _arguments(self, options: Any) -> Any:
        return {name: argument.value for name, argument in self.backend(options).arguments().items()}


class Refusal(NamedTuple):
    """It refused, in Tunewright's own errors."""

    message: str


class Crash(NamedTuple):
    """It raised something else."""

    message: str


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return NUMBERED.sub("", f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _place(error: BaseException, backend: type) -> str:
    """Where in the plugin it came from: the last line in the traceback of its own packages, or of its bases'."""
    tops = {_top(owner.__module__) for owner in backend.__mro__} - {"abc", "builtins", "tunewright", "typing"}
    found, step = "", error.__traceback__
    while step is not None:
        if _top(str(step.tb_frame.f_globals.get("__name__", ""))) in tops:
            found = f" ({Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno})"
        step = step.tb_next
    return found


def _top(module: str) -> str:
    return module.partition(".")[0]


def _libraries() -> set[str]:
    """Top-level modules that are neither Python's nor Tunewright's."""
    tops = set(map(_top, list(sys.modules)))
    return {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("tunewright")}


def _subject(backend: Any, part: str) -> str:
    name, module = getattr(backend, "__qualname__", repr(backend)), getattr(backend, "__module__", "?")
    return f"{part}/{getattr(backend, 'kind', '?')} (`{module}:{name}`)"
