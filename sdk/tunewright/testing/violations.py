"""What a check finds: violations, each with a code and a sentence, all of them raised at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

CODES: Mapping[str, str] = {
    # of any part
    "bad-contract": "the class, its options or what it gives back are not what the contract says",
    "badly-registered": "the class and its options' default name different kinds",
    "unknown-keys-accepted": "options take keys that nobody knows, or can be changed after they were read",
    "heavy-import": "importing the module, or reading its options, imports a heavy library",
    "options-refused": "the check was given options that the backend refuses",
    "sample-refused": "the backend refuses the sample",
    "foreign-exception": "it raises what is neither a TunewrightError nor pydantic's ValidationError",
    "writes-outside": "it writes, renames or removes outside the folder that it is given",
    "state-left-behind": "it changes what the whole process shares",
    "non-deterministic": "equal options, input and seed give different results",
    "idle-field": "a field is neither marked with `To` nor named in `reads`",
    "no-values-to-vary": "no two values of a field are known: `vary` must name them",
    "field-reaches-nothing": "two values of a field make no difference",
    "unkeyed-changes-results": "a field that no key holds changes what comes of a run",
    "capability-lies": "it claims a capability that it does not have",
    # of one part
    "pin-not-plain": "a pin holds what is not text",
    "pin-changes": "a source pins another model when it is asked again",
    "pin-ignored": "a source fetches under a pin that is not its model's",
    "fetch-differs": "one pin brings different bytes",
    "layout-incomplete": "what is fetched lacks a config, weights or a tokenizer",
    "config-differs": "a source's `config` is not the config.json that it fetches",
    "tokenizer-unfaithful": "a text comes back changed, or answers do not end where generation does",
    "load-differs": "a model is another when it is loaded for another use",
    "digest-blind": "a method's digest does not see that the trained weights changed",
    "save-differs": "equal weights are saved as different bytes",
    "save-changes-model": "saving changes the model",
    "attach-differs": "what is attached is not what was saved",
    "merge-differs": "what is merged is not what was saved, or is another model each time",
    "parent-ignored": "a second training does not start from the first",
    "memory-untrue": "what it tells of its memory is not what it holds",
    "count-wrong": "a method counts parameters that cannot be",
    "head-differs": "a source's head and its rows disagree",
    "head-reads-too-much": "a source reads a large file whole for its head",
    "rows-not-told-apart": "two rows have one id or one origin",
    "rows-change": "a source gives other rows when it is asked again",
    "digest-of-more-than-content": "a source's digest depends on a date or a place",
    "digest-misses-content": "a source's digest does not see that the content changed",
    "column-ignored": "a format names a column that makes no difference",
    "columns-not-declared": "a format reads a column that it does not name",
    "prompt-differs": "a format asks otherwise in training than in use",
    "resume-differs": "interrupted and taken up from its own checkpoint, it ends otherwise than in one go",
    "reference-differs": "a trainer's reference depends on what no key holds, or is not what it trains against",
    "reference-ignored": "a trainer takes no notice of the reference that it is given",
    "trains-nothing": "a trainer leaves the model that it was given as it was",
    "base-changed": "a trainer changes what the adapter method froze",
    "outcome-untrue": "a trainer's steps, tokens or losses are not what happened",
    "event-incomplete": "a training event lacks a key",
    "argument-lost": "an argument did not reach the library, and no Substitution says so",
    "adapters-mixed": "asked in mixed order, an adapter or the base answers otherwise than by itself",
    "unknown-adapter-answers": "an adapter that is not there is asked, and something answers",
    "identity-untrue": "a subject carries other weights than it says",
    "batching-changes-answers": "an answer depends on what else is asked",
    "limit-ignored": "an answer is longer than was asked for, or not what its own limit leaves of it",
    "stopped-untrue": "an answer says that it ended otherwise than it did",
    "text-differs": "an answer's text or prompt is not what its tokens are",
    "progress-untrue": "an engine counts otherwise than it answers",
    "items-not-told-apart": "two items have one id",
    "items-depend-on-order": "items or scores change with the order of the rows",
    "answer-ignored": "no answer makes a difference to an evaluator's grades",
    "metrics-differ": "an evaluator grades other metrics than it summarizes",
    "not-finite": "a grade or a score is no finite number",
    "metrics-not-declared": "a gate reads a score that it does not name",
    "evidence-ignored": "a gate passes, or fails, whatever the score",
    "missing-evidence-passes": "a gate passes without its score",
    "nan-passes": "a gate passes on what is no number",
    "export-differs": "one training is exported as different files",
    "variant-unusable": "an exporter offers a search options that it does not take, or others each time",
    "form-untrue": "what was exported cannot be reopened as its Form says",
}
"""Every code, and what it means of a backend."""


class Violation(NamedTuple):
    """One way in which a backend breaks its contract: a stable code, and what was seen and what to do."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class NonConforming(AssertionError):
    """A backend breaks the contract of its part. `violations` holds every way that was found, `codes` their codes."""

    def __init__(self, subject: str, violations: Iterable[Violation]) -> None:
        self.subject, self.violations = subject, tuple(violations)
        lines = "\n".join(f"  {violation}" for violation in self.violations)
        super().__init__(f"{subject} breaks its contract ({len(self.violations)} found):\n{lines}")

    @property
    def codes(self) -> frozenset[str]:
        """The codes of all violations."""
        return frozenset(violation.code for violation in self.violations)


class Report:
    """Collects violations; the same sentence counts once."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def add(self, code: str, message: str) -> None:
        """Note one violation. Raises `KeyError` for a code that is not in `CODES`."""
        CODES[code]
        found = Violation(code, message)
        if found not in self.violations:
            self.violations.append(found)

    def expect(self, held: bool, code: str, message: str) -> bool:
        """Note a violation unless `held`; gives `held` back."""
        if not held:
            self.add(code, message)
        return held

    def conclude(self, subject: str) -> None:
        """Raise `NonConforming` if anything was noted."""
        if self.violations:
            raise NonConforming(subject, self.violations)
