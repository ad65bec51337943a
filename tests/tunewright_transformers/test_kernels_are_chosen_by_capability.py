"""Which kernels a device is given, told from what it can do: no GPU is needed for that, and no library imported."""

from __future__ import annotations

import sys

import pytest
import torch

from tunewright_transformers import kernels
from tunewright_transformers.kernels import Probe, chosen, probe

AMPERE = Probe("cuda", (8, 0), triton=True, flex=True, liger=True)


@pytest.mark.parametrize(
    ("given", "not_flex", "not_liger"),
    [
        (AMPERE, "", ""),
        (AMPERE._replace(capability=(12, 0)), "", ""),
        (AMPERE._replace(liger=False), "", "`liger_kernel` is not installed"),
        (AMPERE._replace(flex=False), "this torch has no `flex_attention`", ""),
        (AMPERE._replace(capability=(7, 5)), *["the device's compute capability is 7.5, below 8.0"] * 2),
        (AMPERE._replace(capability=None), *["the device is none of NVIDIA's"] * 2),
        (AMPERE._replace(triton=False), *["`triton` is not installed"] * 2),
        (AMPERE._replace(device="cpu"), *["the device is `cpu`"] * 2),
        (Probe("mps"), *["the device is `mps`"] * 2),
    ],
)
def test_triton_and_a_new_enough_device_decide(given: Probe, not_flex: str, not_liger: str) -> None:
    assert chosen(given) == (not_flex, not_liger)


def test_on_a_cpu_no_library_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: pytest.fail(f"{name} was looked for"))
    assert probe(torch.device("cpu")) == Probe("cpu")


@pytest.mark.parametrize("there", [True, False])
def test_on_a_gpu_libraries_are_found_and_not_imported(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: object() if there else None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert probe(torch.device("cuda", 0)) == Probe("cuda", (9, 0), there, there, there)
    assert "liger_kernel" not in sys.modules


def test_an_amd_device_has_no_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 4))
    assert probe(torch.device("cuda", 0)).capability is None
