"""What a run's end looks like as one JSON object: `run --json`, run.json, `show`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.pipeline.tasks.contamination import in_brief
from tunewright.pipeline.tasks.evaluate import proofs, unproven
from tunewright.pipeline.tasks.export import FILES
from tunewright.pipeline.tasks.gate import EVIDENCE
from tunewright.pipeline.tasks.package import folder_of
from tunewright.pipeline.tasks.parity import PARITY
from tunewright.pipeline.tasks.search import searches
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store.publish import Artifact


def summarize(folder: Path, done: Mapping[str, Artifact], statuses: Mapping[str, str], why: str) -> dict[str, Any]:
    """Steps, scores, gates, parity and where everything is; paths are absolute."""
    evidence = done["gate"].json(EVIDENCE) if "gate" in done else {"scores": {}, "gates": []}
    certified = _certified(done)
    gates = evidence["gates"]
    failed = bool(why) or any(not gate["passed"] for gate in gates)
    return {
        "status": "failed" if failed else "passed",
        "why": why or "; ".join(f"{gate['gate']}: {gate['why']}" for gate in gates if not gate["passed"]),
        "run_dir": str(folder.absolute()),
        "steps": [_step(name, status, done.get(name)) for name, status in statuses.items()],
        "scores": evidence["scores"],
        "baselines": evidence.get("baselines", {}),
        "unanswered": evidence.get("unanswered", {}),
        "readings": evidence.get("readings", []),
        "answers": evidence.get("answers", {}),
        "proofs": proofs({"tuned": done["evaluate-tuned"]}) if "evaluate-tuned" in done else [],
        "unproven": unproven({"tuned": done["evaluate-tuned"]}) if "evaluate-tuned" in done else [],
        "contamination": in_brief(done["contamination"]) if "contamination" in done else None,
        "clean": evidence.get("clean", {}),
        "gates": gates,
        "parity": {} if certified is None else _certificates(certified),
        "search": {} if certified is None else searches(certified),
        "trained": _trained(done),
        "artifacts": _artifacts(folder, done),
    }


def _certified(done: Mapping[str, Artifact]) -> Artifact | None:
    """The output that holds the certificate: that of the last search, if there was one."""
    last = [artifact for name, artifact in done.items() if name == "parity" or name.startswith("search-")]
    return last[-1] if last else None


def _certificates(parity: Artifact) -> dict[str, Any]:
    """Each form's row of the certificate, with what only this machine measures."""
    figures = parity.manifest["notes"]["figures"]
    return {form: {**found, **figures[form]} for form, found in parity.json(PARITY).items()}


def _trained(done: Mapping[str, Artifact]) -> dict[str, int] | None:
    """Parameters that were trained, of how many in all, and the bytes of what was saved; None before that is known."""
    last = [artifact for name, artifact in done.items() if name == "train" or name.startswith("train-")]
    if not last or not (last[-1].path / OUTCOME).is_file():
        return None
    outcome = last[-1].json(OUTCOME)
    size = sum(path.stat().st_size for path in (last[-1].path / TRAINED).rglob("*") if path.is_file())
    return {"trainable": outcome["trainable"], "total": outcome["total"], "bytes": size}


def _step(name: str, status: str, artifact: Artifact | None) -> dict[str, Any]:
    manifest = artifact.manifest if artifact else {}
    return {
        "name": name,
        "status": status,
        "seconds": manifest.get("seconds"),
        "peak_rss_bytes": manifest.get("peak_rss_bytes"),
        "peak_device_bytes": manifest.get("peak_device_bytes"),
        "forecast_bytes": manifest.get("forecast_bytes"),
    }


def _artifacts(folder: Path, done: Mapping[str, Artifact]) -> dict[str, str]:
    steps = folder.absolute() / "steps"
    made = [name for name in done if name.startswith("export-")]
    made += [name for name in done if name.startswith("search-") and (done[name].path / FILES).is_dir()]
    found = {name.partition("-")[2]: str(steps / name / FILES) for name in made}
    if "report" in done:
        found["report"] = str(folder.absolute() / "report.html")
    if "package" in done:
        packed = folder_of(done["package"])
        if packed is not None:
            found["package"] = str(steps / "package" / packed.name)
    return found
