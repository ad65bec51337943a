"""parity: the certificate of every form that a client may serve, each reopened in a fresh process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.parts import Backend
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import TestRow
from tunewright.pipeline.certify import Certifier, Exported, golden_prompt
from tunewright.pipeline.step import Context, Task
from tunewright.store import disk
from tunewright.store.publish import Artifact

GOLDEN, PARITY = "golden.json", "parity.json"


class Parity(Task):
    """Each form against the trained one, on golden prompts and on the test rows.

    The trained form must carry the trained tensors, and another that is put on the base those that were exported. A
    whole model of its own can only be compared by what it answers. Where a form is not what it should be, or answers
    worse, its row of the certificate says so, and it is not packaged; where it is the trained one, the run ends. The
    test rows are asked of the trained one where a golden answer is another than in the process that evaluated it.
    """

    version = 6

    def __init__(self, certifier: Certifier) -> None:
        self.certifier = certifier

    def parts(self) -> tuple[Backend, ...]:
        return self.certifier.parts()

    def settings(self) -> dict[str, Any]:
        return self.certifier.settings()

    def sources(self) -> Mapping[str, str]:
        return self.certifier.sources()

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        ports = sorted(port for port in inputs if port.startswith("export-"))
        forms = [Exported.read(port.removeprefix("export-"), inputs[port]) for port in ports]
        others = [form.name for form in forms if not self.certifier.is_trained(form)]
        reference = self.certifier.reference(inputs, others, context)
        golden = zip(reference.golden, reference.trained.golden, strict=True)
        disk.write(out / GOLDEN, canonical_json([_golden(row, answer) for row, answer in golden]))
        found = {form.name: self.certifier.certify(form, reference, context) for form in forms}
        disk.write(out / PARITY, canonical_json({name: one.row for name, one in found.items()}))
        return {"figures": {name: one.figures for name, one in found.items()}}


def _golden(row: TestRow, answer: Completion) -> dict[str, Any]:
    prompt = golden_prompt(row)
    return {
        "origin": row.origin,
        "text" if isinstance(prompt, str) else "messages": prompt,
        "prompt_ids": answer.prompt_ids,
        "answer_ids": answer.ids,
        "answer": answer.text,
    }
