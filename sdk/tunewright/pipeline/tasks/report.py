"""report: one HTML file that says what was trained on what, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.parts import Backend, Evaluator
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.evaluate import asked, read_graded
from tunewright.pipeline.tasks.export import FORM
from tunewright.pipeline.tasks.fetch import RECORD
from tunewright.pipeline.tasks.gate import EVIDENCE
from tunewright.pipeline.tasks.parity import PARITY
from tunewright.pipeline.tasks.prepare import FACTS
from tunewright.pipeline.tasks.train import OUTCOME
from tunewright.report import ReportFacts, render
from tunewright.spec.dump import dump
from tunewright.store import disk
from tunewright.store.publish import Artifact

PAGE = "report.html"
SHOWN = 8  # rows won and rows lost that the page shows, of each


class Report(Task):
    """The page; its figures are the steps' own, its seconds and memory those of their manifests."""

    def __init__(self, about: Mapping[str, Any], evaluators: Sequence[Evaluator]) -> None:
        self.about, self.evaluators = about, tuple(evaluators)

    def parts(self) -> tuple[Backend, ...]:
        return self.evaluators

    def settings(self) -> dict[str, Any]:
        return {"about": dict(self.about)}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        disk.write(out / PAGE, render(self.facts(inputs, context)).encode())
        return {}

    def facts(self, inputs: Mapping[str, Artifact], context: Context) -> ReportFacts:
        """Plain data for the page, from the steps' outputs alone."""
        record, outcome = inputs["model"].json(RECORD), inputs["trained"].json(OUTCOME)
        evidence, rows = inputs["gate"].json(EVIDENCE), inputs["rows"].json(FACTS)
        failed = any(not gate["passed"] for gate in evidence["gates"])
        return ReportFacts(
            name=self.about["name"],
            verdict="failed" if failed else "passed",
            base={"name": record["name"], "license": record["license"], "identity": record["identity"]["identity"]},
            quantization=self._part("quantizer"),
            adapter={
                **self._part("adapter"),
                "trainable": outcome["trainable"],
                "total": outcome["total"],
                "bytes": inputs["export"].json(FORM)["bytes"],
            },
            trainer=self._part("trainer"),
            data={
                "train": {key: rows[key] for key in ("rows", "tokens", "supervised", "sources")},
                "test": {"rows": asked(inputs)},
            },
            scores=evidence["scores"],
            loss=[(step, loss) for step, loss in outcome["losses"]],
            steps=[
                {"name": name, "seconds": manifest["seconds"], "peak_rss_bytes": manifest["peak_rss_bytes"]}
                for name, manifest in context.manifests.items()
            ],
            substituted=outcome["substituted"],
            gates=evidence["gates"],
            parity=inputs["parity"].json(PARITY),
            examples=self._examples(inputs),
            mask=rows["mask"],
            libraries=self.about["libraries"],
            machine=outcome["machine"],
            spec_text=dump(self.about["lock"]),
        )

    def _part(self, part: str) -> dict[str, Any]:
        kind = self.about["kinds"][part]
        return {"kind": kind, "arguments": self.about["arguments"].get(f"{part}/{kind}", {})}

    def _examples(self, inputs: Mapping[str, Artifact]) -> list[dict[str, str]]:
        """The first rows that the tuned model gets right and the base does not, and the other way round."""
        won, lost = [], []
        for evaluator in self.evaluators:
            pairs = zip(*(read_graded(inputs[side], evaluator.name) for side in ("base", "tuned")), strict=True)
            for base, tuned in pairs:
                before, after = (sum(graded.grades.values()) for graded in (base, tuned))
                if before != after:
                    shown = {
                        "origin": base.item.origin,
                        "prompt": base.item.prompt[-1]["content"],
                        "reference": base.item.reference,
                        "base": base.answer.text,
                        "tuned": tuned.answer.text,
                    }
                    (won if after > before else lost).append(shown)
        return won[:SHOWN] + lost[:SHOWN]
