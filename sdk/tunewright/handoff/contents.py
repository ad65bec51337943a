"""What a package is made of: plain data and files, nothing of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.parts.gate import Score, Verdict

Json = Any


@dataclass(frozen=True)
class PackageContents:
    """Everything that `build` writes; the manifest and the model card say nothing that is not in here."""

    name: str
    version: str
    license: str | None
    """Of what was trained: an SPDX identifier; None stands in the package as `unknown`."""
    base: Mapping[str, Json]
    """`name` (Hub repository or a label) and `identity` (64 hex digits); also, where known, `repo` (the Hub's
    `org/name`), `revision`, `license`, `dtype` (torch's name: `bfloat16`), and `tensors`, `tokenizer`,
    `template` and `special` of `model_identity`; `folder` where the package holds the base itself."""
    quantization: Mapping[str, Json] | None
    """transformers' quantization config as a dict, with which the base is loaded again; None = not quantized."""
    adapter: Mapping[str, Json] | None
    """`kind`, `trainable` and `total` parameters, `arguments` by name; None = the whole model was trained."""
    files: Mapping[str, Path]
    """Copied as they are: adapter or model, tokenizer, chat_template.jinja. Their names are paths in the package."""
    texts: Mapping[str, str]
    """Written in UTF-8: spec.lock.yaml, evals/*.jsonl, prompts.json, REPORT.html."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    gates: Sequence[Verdict] = ()
    data: Mapping[str, Json] = field(default_factory=dict)
    """For the card: `rows`, `tokens` and `supervised` of all trainings together, and `test_rows`."""
    trainings: Sequence[Mapping[str, Json]] = ()
    """Every training, in their order: `name` (its stage's; empty for the only one), `trainer`, `rows`, `tokens`,
    `supervised`, `sources` (a list of {name, rows, set_aside}), `steps`, `first_loss` and `last_loss`, `validation`
    (a list of [step, loss]) on `validation_rows`, `best_step` (whose weights were kept; None = the last's),
    `substituted` (a list of {what, asked, got, why}: what a library did otherwise than it was asked)."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Versions by distribution."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Of what the package contains or stands on: {"base": "Apache-2.0", …}."""
    parent: Mapping[str, Json] | None = None
    """What the training went on from: `digest` of its files, and where it is a package `name` and `version`."""
    forms: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """Every form that was exported, by name: its certificate (`agreement`, `kl`, `scores`, `bytes`, …), how it is
    opened (`engine`, `options`, `quantizer`, `dtype`; `base`: the one that was `trained` on, or as it lies `stored` in
    its files, without the quantization of the training), what other runs gave to it (`taken_up`, each as `parent`), and
    the `folder` of the package that holds it; empty for the trained form, which lies at the top, and for one that is
    not handed over for the reasons in `refused`. `found` is there where other options than the recipe's made it: the
    line of a spec that holds them."""
    limits: Sequence[str] = ()
    """Further sentences for the card's section on limits."""

    @property
    def title(self) -> str:
        """Name of the package's folder."""
        return f"{self.name}-{self.version}"
