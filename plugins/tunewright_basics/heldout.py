"""`heldout`: the spec's test rows, asked and compared with their own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from tunewright.errors import BadInput
from tunewright.grading import code, number, refusal, structure, text
from tunewright.parts import Evaluator, Facts, Finding
from tunewright.parts.base import BadOption, Json
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import EvaluatorOptions, Graded, Item, OfSums, Summary, TestRow, mean_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Metric = Literal[
    "exact_match", "macro_f1", "contains", "token_f1", "numeric", "json_fields", "valid_json", "refusal", "over_refusal"
]
READERS: Mapping[str, Metric] = {
    "tolerance": "numeric", "relative": "numeric", "scale": "numeric", "json_schema": "valid_json",
}  # fmt: skip
"""Options that one metric reads, and which."""


WORD = "a word that is no article"
NEEDED: Mapping[Metric, tuple[str, Callable[[str], object]]] = {
    "numeric": ("a number", number.read),
    "json_fields": ("a JSON object", structure.find_object),
    "contains": (WORD, lambda reference: text.normalise(reference, numbers=True) or None),
    "token_f1": (WORD, lambda reference: text.normalise(reference) or None),
}
"""What the reference must have for an answer to meet it by a metric, and what reads that: None where there is none."""


class HeldoutOptions(EvaluatorOptions):
    """Options of held-out evaluation."""

    kind: str = "heldout"
    metrics: Annotated[list[Metric], Field(min_length=1, description="Scores to make.")] = ["exact_match"]
    tolerance: Annotated[NonNegativeFloat, Field(description="How far off a number may be, for `numeric`.")] = 0.0
    relative: Annotated[
        NonNegativeFloat, Field(description="The same as a share of the reference; the larger of both counts.")
    ] = 0.0
    scale: Annotated[
        Literal["any", "same"],
        Field(description="Whether `1.2` meets `1.2 million`, where one of both says no scale; `same`: it does not."),
    ] = "any"
    json_schema: Annotated[
        dict[str, Json] | None, Field(description="What an object must keep to be valid, for `valid_json`.")
    ] = None


class Heldout(Evaluator[HeldoutOptions]):
    """Asks every test row and grades the answer against the row's own, by each of `metrics`.

    | metric | grade of an answer |
    |---|---|
    | `exact_match` | 1 where it is the reference, surrounding white space apart |
    | `macro_f1` | the same; the score is the mean F1 over the reference labels |
    | `contains` | 1 where the reference's words stand in it in a row, as SQuAD normalises them |
    | `token_f1` | F1 over words, as SQuAD has it |
    | `numeric` | 1 where its number is the reference's, within `tolerance` or `relative`, by `scale` |
    | `json_fields` | F1 over the fields of its first JSON object, 0 without one |
    | `valid_json` | 1 where it has a JSON object, which keeps `json_schema` where that is given |
    | `refusal` | 1 where it declines as the reference does, or answers as the reference does; English |
    | `over_refusal` | 1 where it declines; of the rows whose reference does not. A better model has less |

    Source: Rajpurkar et al., SQuAD, 2016, for the words; the modules of `tunewright.grading` for the rest.
    """

    kind = "heldout"
    Options: ClassVar = HeldoutOptions
    libraries = ("jsonschema",)
    extra = "train"
    reads = frozenset({"metrics", *READERS})
    vary: ClassVar = {
        "tolerance": (0.0, 1.0),
        "relative": (0.0, 0.1),
        "scale": ("any", "same"),
        "json_schema": (None, {"required": ["days"]}),
    }

    def check(self, facts: Facts) -> Iterable[Finding]:
        fields = type(self.options).model_fields
        for name, metric in READERS.items():
            if metric not in self.options.metrics and getattr(self.options, name) != fields[name].default:
                fix = f"add `{metric}` to `metrics`, or remove it"
                yield Finding("argument-unused", f"`{name}` is read by the metric `{metric}` alone", name, fix)

    def versions(self) -> dict[str, str]:
        return super().versions() | code()

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        self._refuse_schema()
        found = [Item(row.id, row.origin, row.example.asked, row.example.answer, row.group) for row in data]
        self._refuse_references(found)
        yield from found

    def _refuse_schema(self) -> None:
        why = None if self.options.json_schema is None else structure.schema_fault(self.options.json_schema)
        if why:
            raise BadOption("bad-value", f"`json_schema` is no JSON schema: {why}", "json_schema")

    def _refuse_references(self, items: Sequence[Item]) -> None:
        """A reference that no answer could meet by a metric, or an empty one, is a fault of the row, not of a model."""
        for metric, (needed, read) in NEEDED.items():
            if metric in self.options.metrics:
                for item in items:
                    if read(item.reference) is None:
                        says = f"{item.origin}: `{metric}` needs {needed} in the reference, which is {item.reference!r}"
                        raise BadInput(says, fix=f"mend the row, or leave `{metric}` out of `{self.name}`")
        if "over_refusal" in self.options.metrics and all(refusal.declines(item.reference) for item in items):
            says = "every reference declines, and `over_refusal` is of the rows that are to be answered"
            raise BadInput(says, fix=f"leave `over_refusal` out of `{self.name}`, or add such rows")

    def grade(self, item: Item, answer: Completion) -> dict[str, float]:
        said, wanted = answer.text, item.reference
        found = {metric: self._grade(metric, said, wanted) for metric in self.options.metrics}
        return {metric: grade for metric, grade in found.items() if grade is not None}

    def _grade(self, metric: Metric, said: str, wanted: str) -> float | None:
        match metric:
            case "exact_match" | "macro_f1":
                return float(said.strip() == wanted.strip())
            case "contains":
                return text.contains(said, [wanted])
            case "token_f1":
                return text.token_f1(said, [wanted])
            case "numeric":
                return float(self._is_number(said, wanted))
            case "json_fields":
                return (
                    structure.field_f1(found, structure.find_object(wanted))
                    if (found := structure.find_object(said)) is not None
                    else 0.0
                )
            case "valid_json":
                return float(self._is_valid(structure.find_object(said)))
            case "refusal":
                return float(refusal.declines(said) == refusal.declines(wanted))
            case "over_refusal":
                return None if refusal.declines(wanted) else float(refusal.declines(said))

    def _is_number(self, said: str, wanted: str) -> bool:
        reference, options = number.read(wanted), self.options
        return reference is not None and number.same(
            number.read(said),
            reference,
            tolerance=options.tolerance,
            relative=options.relative,
            strict=options.scale == "same",
        )

    def _is_valid(self, found: dict[str, Any] | None) -> bool:
        schema = self.options.json_schema
        return found is not None and (schema is None or structure.is_valid(found, schema))

    def summaries(self) -> Mapping[str, Summary]:
        return {metric: macro_f1 if metric == "macro_f1" else mean_of(metric) for metric in self.options.metrics}

    def lower_is_better(self) -> frozenset[str]:
        return frozenset({"over_refusal"}) & frozenset(self.options.metrics)

    def largest(self) -> Mapping[str, float]:
        return dict.fromkeys(self.options.metrics, 1.0)


def _counts(graded: Sequence[Graded]) -> Any:
    """Of each label, in thirds: is it wanted, is it said, and is it right."""
    from scipy.sparse import csr_matrix

    labels = {label: place for place, label in enumerate(sorted({g.item.reference.strip() for g in graded}))}
    places: list[tuple[int, int]] = []
    for row, g in enumerate(graded):
        wanted, said = labels[g.item.reference.strip()], labels.get(g.answer.text.strip())
        places.append((row, wanted))
        if said is not None:
            places.append((row, len(labels) + said))
        if said == wanted:
            places.append((row, 2 * len(labels) + wanted))
    return csr_matrix(([1.0] * len(places), tuple(zip(*places, strict=True))), shape=(len(graded), 3 * len(labels)))


def _macro(sums: Floats) -> Floats:
    import numpy as np

    wanted, said, hits = np.split(sums, 3, axis=1)
    f1s: Floats = 2 * hits / np.maximum(1.0, wanted + said)
    found: Floats = np.where(wanted > 0, f1s, 0.0).sum(axis=1) / (wanted > 0).sum(axis=1)
    return found


macro_f1 = OfSums(_counts, _macro)
"""Mean over the reference labels of F1 = 2tp / (2tp + fp + fn).

An answer that is no reference label counts as a miss of its row's label and adds no class of its own: a model that
invents labels is not punished twice.
"""
