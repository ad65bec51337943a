"""Every combination of trainer, adapter, quantizer and kind of rows either trains or is refused before anything runs.

What is forbidden follows from what the backends say of themselves. `validate` is asked about each combination. Of those
that it lets pass, a pairwise covering array is trained: every two choices that may stand together, in some run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from tiny import FAMILIES, tiny_model
from tunewright.host import Host
from tunewright.pipeline.run import Run
from tunewright.project import Project

TRAINERS = {
    "sft": {"kind": "sft"},
    "sft, LoRA+": {"kind": "sft", "loraplus_lr_ratio": 8.0},
    "cpt": {"kind": "cpt", "max_length": 16},
    "dpo": {"kind": "dpo"},
    "kto": {"kind": "kto"},
}
ADAPTERS = {
    "lora": {"kind": "lora", "r": 4, "alpha": 8},
    "rslora": {"kind": "lora", "r": 4, "rslora": True, "dropout": 0.1},
    "dora": {"kind": "lora", "r": 4, "dora": True},
    "pissa": {"kind": "lora", "r": 4, "init": "pissa"},
    "loftq": {"kind": "lora", "r": 4, "init": "loftq"},
    "ia3": {"kind": "ia3"},
    "vera": {"kind": "peft", "args": {"peft_type": "VERA", "r": 8, "target_modules": ["q_proj", "v_proj"]}},
    "loha": {"kind": "peft", "args": {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj", "v_proj"]}},
    "none": {"kind": "none"},
}
QUANTIZERS = {"none": {"kind": "none"}, "nf4": {"kind": "nf4"}, "fp4": {"kind": "fp4"}, "int8": {"kind": "int8"}}
FORMATS = {
    "chat": {"kind": "chat", "prompt": "{text}", "completion": "{queue}"},
    "completion": {"kind": "completion", "prompt": "{text} =>", "completion": " {queue}"},
    "text": {"kind": "text", "text": "{text}: {queue}"},
    "preference": {"kind": "preference", "prompt": "{text}", "chosen": "{queue}", "rejected": "{other}"},
    "feedback": {"kind": "feedback", "prompt": "{text}", "completion": "{queue}", "label": "good"},
}
DTYPES = ("fp32", "bf16")
STEPS = 2
LIMIT = 60

FORBIDDEN = {
    *(("trainer", "sft", "format", rows) for rows in ("text", "preference", "feedback")),
    *(("trainer", "sft, LoRA+", "format", rows) for rows in ("text", "preference", "feedback")),
    *(("trainer", "cpt", "format", rows) for rows in ("chat", "completion", "preference", "feedback")),
    *(("trainer", "dpo", "format", rows) for rows in ("chat", "completion", "text", "feedback")),
    *(("trainer", "kto", "format", rows) for rows in ("chat", "completion", "text", "preference")),
    *(("trainer", "sft, LoRA+", "adapter", method) for method in ("ia3", "vera", "loha", "none")),
    *(
        ("adapter", method, "quantizer", kind)
        for method in ("pissa", "loha", "none")
        for kind in ("nf4", "fp4", "int8")
    ),
    *(("adapter", "loftq", "quantizer", kind) for kind in ("none", "int8")),
}
"""Which two choices exclude each other, by hand: a backend that says too much or too little of itself is seen."""

CODES = {
    ("trainer", "format"): "wrong-row-kind", ("trainer", "adapter"): "needs-lora",
    ("adapter", "quantizer"): "base-not-trainable",
}  # fmt: skip


class Case(NamedTuple):
    """A combination, by the names of the choices."""

    trainer: str
    adapter: str
    quantizer: str
    format: str
    family: str = "llama"
    dtype: str = "fp32"

    @property
    def pairs(self) -> frozenset[tuple[str, str, str, str]]:
        """Every two of its choices, each with its factor."""
        chosen = self._asdict().items()
        return frozenset((a, x, b, y) for (a, x), (b, y) in itertools.combinations(chosen, 2))

    @property
    def forbidden(self) -> frozenset[tuple[str, str, str, str]]:
        """Those of its pairs that exclude each other."""
        return self.pairs & FORBIDDEN

    def __str__(self) -> str:
        return "-".join(self).replace(", ", "-").replace("+", "plus")


def chosen() -> Iterator[Case]:
    """Every combination of the parts between which a rule stands."""
    yield from itertools.starmap(Case, itertools.product(TRAINERS, ADAPTERS, QUANTIZERS, FORMATS))


@cache
def covering() -> tuple[Case, ...]:
    """A pairwise covering array, greedily: the case that brings the most pairs not yet seen, the first of equals."""
    allowed = [
        case._replace(family=family, dtype=dtype)
        for case, family, dtype in itertools.product(chosen(), FAMILIES, DTYPES)
        if not case.forbidden
    ]
    wanted = set().union(*(case.pairs for case in allowed))
    found = []
    while wanted:
        best = max(allowed, key=lambda case: len(case.pairs & wanted))
        wanted -= best.pairs
        found.append(best)
    return tuple(found)


ROWS = [("where is my parcel", "delivery", "account"), ("the parcel is late", "delivery", "billing"),
        ("I cannot sign in", "account", "delivery"), ("my password is lost", "account", "billing"),
        ("when does it arrive", "delivery", "account"), ("I was charged twice", "billing", "delivery")]  # fmt: skip


def spec_of(case: Case, folder: Path) -> dict[str, Any]:
    trainer = {**TRAINERS[case.trainer], "max_steps": STEPS, "batch_size": 3, "learning_rate": 1e-2}
    return {
        "apiVersion": "tunewright/v1",
        "name": "tiny",
        "model": {
            "source": {"kind": "local", "path": str(folder / case.family), "license": "Apache-2.0"},
            "dtype": case.dtype,
        },
        "quantization": QUANTIZERS[case.quantizer],
        "adapter": ADAPTERS[case.adapter],
        "data": {"format": FORMATS[case.format], "train": [{"kind": "csv", "path": str(folder / "train.csv")}]},
        "trainer": trainer,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The three tiny bases and a file that has columns for every format."""
    folder = tmp_path_factory.mktemp("combinations")
    for family in FAMILIES:
        tiny_model(folder / family, family, dtype="bfloat16")
    lines = [f"{text},{queue},{other},{number % 2}" for number, (text, queue, other) in enumerate(ROWS)]
    (folder / "train.csv").write_text("\n".join(["text,queue,other,good", *lines, ""]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def host():
    """One for all: plugins are found once."""
    return Host()


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def project(case: Case, folder: Path, host: Host) -> Project:
    path = folder / "spec.yaml"
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False  # each key on a line of its own, for the positions
    with path.open("w") as file:
        yaml.dump(spec_of(case, folder), file)
    return Project.from_spec(path, host=host)


def said_by_the_backends(host: Host) -> set[tuple[str, str, str, str]]:
    """The pairs that exclude each other, from what each backend needs, offers, makes and consumes."""

    def made(part: str, choices: dict[str, Any]) -> list[tuple[str, Any]]:
        return [(name, host.make(part, raw)) for name, raw in choices.items()]

    trainers, adapters = made("trainer", TRAINERS), made("adapter", ADAPTERS)
    quantizers, formats = made("quantizer", QUANTIZERS), made("prompt_format", FORMATS)
    found = {
        ("trainer", one, "format", other)
        for (one, trainer), (other, form) in itertools.product(trainers, formats)
        if form.makes not in trainer.consumes
    }
    for (a, those), (b, others) in [(("trainer", trainers), ("adapter", adapters)),
                                    (("adapter", adapters), ("quantizer", quantizers))]:  # fmt: skip
        for (one, backend), (other, offering) in itertools.product(those, others):
            if any(need.part == b and need.cap not in offering.offers() for need in backend.needs()):
                found.add((a, one, b, other))
    return found


def test_what_excludes_what_is_what_the_backends_say(host):
    assert said_by_the_backends(host) == FORBIDDEN


def test_validate_refuses_what_is_forbidden_by_its_code_and_nothing_else(folder, host):
    wrong = {}
    for case in chosen():
        expected = sorted({CODES[pair[0], pair[2]] for pair in case.forbidden})
        problems = project(case, folder, host).validate()
        if sorted({problem.code for problem in problems}) != expected:
            wrong[case] = [str(problem.message) for problem in problems]
    assert wrong == {}


def test_a_refusal_stands_at_the_part_that_needs_and_says_what_to_do(folder, host):
    for one, x, other, y in sorted(FORBIDDEN):
        alone = [case for case in chosen() if case.forbidden == {(one, x, other, y)}]
        (problem,) = project(alone[0], folder, host).validate()
        line = (folder / "spec.yaml").read_text().splitlines()[problem.position.line - 1]
        assert line.strip() == f"kind: {spec_of(alone[0], folder)[one]['kind']}", (one, x, other, y)
        assert problem.suggestion, (one, x, other, y)


def test_the_array_is_small_and_covers_every_pair_that_may_stand_together():
    array = covering()
    assert len(array) <= LIMIT
    factors = {"trainer": TRAINERS, "adapter": ADAPTERS, "quantizer": QUANTIZERS, "format": FORMATS,
               "family": FAMILIES, "dtype": DTYPES}  # fmt: skip
    both = itertools.combinations(factors.items(), 2)
    every = {(a, x, b, y) for (a, these), (b, those) in both for x, y in itertools.product(these, those)}
    assert set().union(*(case.pairs for case in array)) == every - FORBIDDEN


# a dozen by default, the rest with what takes minutes
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if place % 4 else []) for place, case in enumerate(covering())],
    ids=str,
)
def test_what_is_allowed_trains(case, folder, host):
    from safetensors.torch import load_file

    plan = project(case, folder, host).plan()
    names = [step.name for step in plan.steps]
    with Run.open(dataclasses.replace(plan, steps=plan.steps[: names.index("train") + 1]), folder / "root") as run:
        run.execute(lambda event: None)
    step = (folder / "root" / "latest" / "steps" / "train").resolve()
    outcome = json.loads((step / "outcome.json").read_text())
    assert outcome["steps"] == STEPS
    assert all(math.isfinite(loss) for _, loss in outcome["losses"])
    assert outcome["tokens"] >= outcome["supervised"] > 0
    whole = ADAPTERS[case.adapter]["kind"] == "none"
    assert (outcome["trainable"] == outcome["total"]) == whole
    tensors = load_file(step / "trained" / ("model.safetensors" if whole else "adapter_model.safetensors"))
    assert tensors
    assert all(tensor.isfinite().all() for tensor in tensors.values())
