"""package: the hand-off, as a folder and its zip; not made where a gate of the spec failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.handoff.contents import PackageContents
from tunewright.handoff.package import build, zip_folder
from tunewright.parts import Backend, Evaluator, Quantizer
from tunewright.parts.gate import Verdict
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.contamination import LEDGER, sentences
from tunewright.pipeline.tasks.evaluate import asked, unproven
from tunewright.pipeline.tasks.export import FILES, FORM
from tunewright.pipeline.tasks.fetch import MODEL, RECORD, published
from tunewright.pipeline.tasks.gate import EVIDENCE, score_of
from tunewright.pipeline.tasks.parity import GOLDEN, PARITY
from tunewright.pipeline.tasks.report import PAGE
from tunewright.pipeline.tasks.search import form_of, searches
from tunewright.pipeline.tasks.train import OUTCOME
from tunewright.pipeline.trainings import COUNTED, parent, totals, trainings
from tunewright.spec.dump import dump
from tunewright.spec.model import Package as PackageSpec
from tunewright.store import disk
from tunewright.store.publish import Artifact

REFUSED, BASE, FORMS = "refused.json", "base", "forms"
HANDED_OVER = (
    "name", "trainer", *COUNTED, "sources", "steps", "validation", "validation_rows", "best_step", "substituted",
)  # fmt: skip
"""What the manifest has of each training as it was told; a report tells more."""
TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class Package(Task):
    """Everything that a client needs, with the evidence of what it does."""

    version = 3

    def __init__(
        self, about: Mapping[str, Any], package: PackageSpec, evaluators: Sequence[Evaluator], quantizer: Quantizer
    ) -> None:
        self.about, self.package = about, package
        self.evaluators, self.quantizer = tuple(evaluators), quantizer

    def parts(self) -> tuple[Backend, ...]:
        return (self.quantizer,)

    def settings(self) -> dict[str, Any]:
        return {"about": dict(self.about), "package": self.package.model_dump(mode="json")}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        evidence = inputs["gate"].json(EVIDENCE)
        failed = [gate for gate in evidence["gates"] if not gate["passed"]]
        if failed:
            disk.write(out / REFUSED, canonical_json(failed))
            return {"made": False}
        folder = build(self.contents(inputs), out)
        zip_folder(folder)
        return {"made": True, "folder": folder.name}

    def contents(self, inputs: Mapping[str, Artifact]) -> PackageContents:
        """What the package is made of: plain data, from the steps' outputs alone."""
        record, evidence = inputs["model"].json(RECORD), inputs["gate"].json(EVIDENCE)
        told = trainings(inputs, self.about)
        files = inputs["export"].path / FILES
        # an adapter over a base that is nowhere else would be of no use
        ours, attached = "cache_key" not in record, inputs["export"].json(FORM)["attach"]
        merged = inputs["model"].path / MODEL if ours and attached else None
        there = published(record)
        return PackageContents(
            name=self.about["name"],
            version=self.package.version,
            license=self.package.license or self.about["license"],
            base={
                "name": record["name"],
                "license": self.about["license"],
                "dtype": TORCH_DTYPES[self.about["dtype"]],
                **record["identity"],
                **({"folder": BASE} if merged else {}),
                **({} if there is None else there._asdict()),
            },
            quantization=self.quantizer.describe() or None,
            adapter=self._adapter(inputs),
            files={**_files(files), **_under(BASE, merged), **self._forms(inputs)},
            forms=self._certificates(inputs),
            parent=parent(inputs, self.about),
            texts={**self._evals(inputs), **self._texts(inputs)},
            scores={name: score_of(score) for name, score in evidence["scores"].items()},
            gates=[Verdict(**gate) for gate in evidence["gates"]],
            data={**totals(told), "test_rows": asked(inputs)},
            trainings=[_handed_over(one) for one in told],
            libraries=self.about["libraries"],
            limits=[*([self.quantizer.caveat] if self.quantizer.caveat else []), *unproven(inputs), *sentences(inputs)],
            licences={"base": self.about["license"]} if self.about["license"] else {},
        )

    def _adapter(self, inputs: Mapping[str, Artifact]) -> dict[str, Any] | None:
        outcome, kind = inputs["trained"].json(OUTCOME), self.about["kinds"]["adapter"]
        if not inputs["export"].json(FORM)["attach"]:
            return None
        arguments = {name: a["value"] for name, a in self.about["arguments"].get(f"adapter/{kind}", {}).items()}
        return {"kind": kind, "trainable": outcome["trainable"], "total": outcome["total"], "arguments": arguments}

    def _forms(self, inputs: Mapping[str, Artifact]) -> dict[str, Path]:
        """The files of every further form whose certificate lets it be handed over."""
        return {
            name: path
            for form, found in self._certificates(inputs).items()
            if found["folder"]
            for name, path in _under(found["folder"], form_of(inputs, form).path / FILES).items()
        }

    def _certificates(self, inputs: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
        """By form: how it is opened, what of other runs is in it, its row of the certificate, and the folder of the
        package that holds it.

        The trained form lies at the top, and a refused one nowhere: their `folder` is empty. `found` is what makes a
        form in place of what the spec writes, as a spec would write it.
        """
        found, searched = {}, searches(inputs["parity"])
        for name, certified in inputs["parity"].json(PARITY).items():
            form = form_of(inputs, name)
            about = form.json(FORM)
            handed = form.path != inputs["export"].path and not certified["refused"]
            opened = {key: about[key] for key in ("engine", "options", "quantizer", "dtype", "base", "taken_up")}
            by = {"found": searched[name]["found"]} if form.path != inputs[f"export-{name}"].path else {}
            found[name] = {**opened, **certified, **by, "folder": f"{FORMS}/{name}" if handed else ""}
        return found

    def _evals(self, inputs: Mapping[str, Artifact]) -> dict[str, str]:
        sides = [side for side in ("base", "tuned") if side in inputs]
        return {
            f"evals/{evaluator.name}.{side}.jsonl": _text(inputs[side], f"{evaluator.name}.jsonl")
            for evaluator in self.evaluators
            for side in sides
        }

    def _texts(self, inputs: Mapping[str, Artifact]) -> dict[str, str]:
        return {
            "spec.lock.yaml": dump(self.about["lock"]),
            "prompts.json": _text(inputs["parity"], GOLDEN),
            "certificate.json": _certificate(inputs["parity"]),
            "REPORT.html": _text(inputs["report"], PAGE),
            **({LEDGER: _text(inputs["contamination"], LEDGER)} if "contamination" in inputs else {}),
        }


def _handed_over(training: Mapping[str, Any]) -> dict[str, Any]:
    """What a package tells of a training: of its losses the first and the last, for the report draws them, no text of
    its rows, and nothing that only this machine has."""
    losses = [loss for _, loss in training["losses"]]
    ends = {"first_loss": losses[0] if losses else None, "last_loss": losses[-1] if losses else None}
    return {**{name: training[name] for name in HANDED_OVER}, **ends}


def _certificate(certified: Artifact) -> str:
    """Every form's row with what the machine of this run measured, and what was tried of a form that was searched."""
    searched, figures = searches(certified), certified.manifest["notes"]["figures"]
    search = {name: {"search": tried} for name, tried in searched.items()}
    told = {name: {**row, **figures[name], **search.get(name, {})} for name, row in certified.json(PARITY).items()}
    return canonical_json(told).decode()


def _under(folder: str, path: Path | None) -> dict[str, Path]:
    """The files of `path`, by their names in a folder of the package."""
    return {} if path is None else {f"{folder}/{name}": file for name, file in _files(path).items()}


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _text(artifact: Artifact, name: str) -> str:
    return (artifact.path / name).read_text(encoding="utf-8")


def folder_of(packed: Artifact) -> Path | None:
    """The package's folder in a package step's output; None where it was not made."""
    notes = packed.manifest["notes"]
    return packed.path / notes["folder"] if notes["made"] else None
