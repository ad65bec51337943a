"""search-<export>: where the certificate refuses an export, other options of its exporter, one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import BadInput, TunewrightError, WorkFailed
from tunewright.parts import Backend, Exporter, Gate
from tunewright.parts.gate import AGREEMENT, Evidence, form_score
from tunewright.pipeline.certificate import unmeasured
from tunewright.pipeline.certify import Certified, Certifier, Exported
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.export import FILES, FORM, Export
from tunewright.pipeline.tasks.gate import score_of
from tunewright.pipeline.tasks.parity import GOLDEN, PARITY
from tunewright.pipeline.variants import line_of
from tunewright.store import disk
from tunewright.store.publish import Artifact

SEARCH, TRIED = "search.json", "tried.json"


class Search(Task):
    """Variants of one export, by the certificate that it was refused by; the first that passes takes its place.

    Its output stands where that of `parity` stood: the same files, in which the row of the export is that of the form
    which is handed over; a search after it goes on from there. `search.json` holds what was tried. The files of a form
    that was found lie beside it as in an export step; those of a refused one are not kept.

    `gates` are those that judge this form alone: a variant that one of them would fail is no find.
    """

    version = 3

    def __init__(
        self, own: Exporter, variants: Sequence[Exporter], certifier: Certifier, gates: Sequence[Gate]
    ) -> None:
        self.own, self.variants, self.certifier, self.gates = own, tuple(variants), certifier, tuple(gates)

    def parts(self) -> tuple[Backend, ...]:
        return (self.own, *self.variants, *self.certifier.parts(), *self.gates)

    def settings(self) -> dict[str, Any]:
        return self.certifier.settings()

    def sources(self) -> Mapping[str, str]:
        return self.certifier.sources()

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        parity, name = inputs["parity"], self.own.name
        table, figures = parity.json(PARITY), parity.manifest["notes"]["figures"]
        made = Exported.read(name, inputs[f"export-{name}"]).digest
        tried = [self._judged(self.own, made, Certified(table[name], figures[name]))]
        if tried[0]["refused"]:
            tried += self._searched(tried[0], inputs, out, context)
        found = None if tried[-1]["refused"] else tried[-1]
        if found is not None:
            table, figures = {**table, name: found["row"]}, {**figures, name: found["figures"]}
        searched = {"found": found and found["written"], "tried": [_told(one) for one in tried]}
        disk.write(out / GOLDEN, (parity.path / GOLDEN).read_bytes())
        disk.write(out / PARITY, canonical_json(table))
        disk.write(out / SEARCH, canonical_json({**searches(parity), name: searched}))
        return {"figures": figures}

    def _searched(
        self, own: Mapping[str, Any], inputs: Mapping[str, Artifact], out: Path, context: Context
    ) -> list[dict[str, Any]]:
        """What came of each variant, up to the first that passes, whose files are then in `out`.

        What was refused before an interruption is not tried again: its lines wait in the scratch folder.
        """
        notes = context.scratch / TRIED
        tried: list[dict[str, Any]] = json.loads(notes.read_text("utf-8")) if notes.is_file() else []
        reference = self.certifier.reference(inputs, [self.own.name], context)
        for variant in self.variants[len(tried) :]:
            place = f"variant {len(tried) + 1} of at most {len(self.variants)}"
            context.emit({"event": "progress", "what": f"{place}: {line_of(variant)}"})
            made = ""
            try:
                form = self._made(variant, inputs, out, context)
                made = form.digest
                found = _known(made, [own, *tried]) or self.certifier.certify(form, reference, context)
            except (BadInput, WorkFailed) as error:
                found = _failed(error)
            tried.append(self._judged(variant, made, found))
            if not tried[-1]["refused"]:
                break
            context.emit({"event": "progress", "what": f"refused: {tried[-1]['refused'][0]}"})
            disk.replace(notes, canonical_json(tried))
            for refused in (out / FILES, out / FORM):
                disk.remove(refused)
        return tried

    def _made(self, variant: Exporter, inputs: Mapping[str, Artifact], out: Path, context: Context) -> Exported:
        """As an export step makes it."""
        Export(variant, self.certifier.opener, self.certifier.seed).run(inputs, out, context)
        return Exported(self.own.name, out, json.loads((out / FORM).read_text("utf-8")))

    def _judged(self, exporter: Exporter, made: str, found: Certified) -> dict[str, Any]:
        """A line of the table: the options as a spec would write them, the digest of what they made, what was measured,
        and why it is refused."""
        refused = [*found.row["refused"], *self._missed(found.row)]
        return {"written": line_of(exporter), "made": made, **found._asdict(), "refused": refused}

    def _missed(self, row: Mapping[str, Any]) -> Iterator[str]:
        """The gates on this form that it would fail."""
        scores = {form_score(self.own.name, measure): score_of(one) for measure, one in row["scores"].items()}
        evidence = Evidence(scores)
        for verdict in (gate.judge(evidence) for gate in self.gates):
            if not verdict.passed:
                yield f"the gate fails: {verdict.gate}; {verdict.why}"


def _known(made: str, before: Sequence[Mapping[str, Any]]) -> Certified | None:
    """Where other options made what was refused already, as where there are no more rows to calibrate by."""
    same = next((one for one in before if one["made"] == made), None)
    if same is None:
        return None
    return Certified({**same["row"], "refused": [f"it is the very form of {same['written']}"]}, same["figures"])


def _failed(error: TunewrightError) -> Certified:
    """The row of a variant that could not be made, or not be opened."""
    nothing = {AGREEMENT: None, "bytes": None, "identity": None}
    row = {**unmeasured(""), **nothing, "refused": [f"it cannot be made, or not be opened: {error.message}"]}
    return Certified(row, {"tokens_per_second": None, "peak_rss_bytes": None})


def _told(judged: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table as it is handed on; what only this machine measures stands in no digest."""
    return {"written": judged["written"], **judged["row"], "refused": judged["refused"]}


def searches(certified: Artifact) -> dict[str, Any]:
    """What was searched before a certificate stood as it does, by form; empty where nothing was."""
    return dict(certified.json(SEARCH)) if (certified.path / SEARCH).is_file() else {}


def form_of(inputs: Mapping[str, Artifact], name: str) -> Artifact:
    """The output that holds a form: the search's where it found one, else that of the export as the spec writes it."""
    found = inputs.get(f"search-{name}")
    return found if found is not None and (found.path / FORM).is_file() else inputs[f"export-{name}"]
