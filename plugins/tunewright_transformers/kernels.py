"""Which kernels a device is given, by what it and the libraries beside it can do; nothing of them is imported here.

A choice is not yet a use: what is chosen is tried on the model before the first step, and ours are taken where it
answers otherwise (`tunewright_trl.sharing.not_by_flex`, `tunewright_trl.lean.LeanLayers`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import torch

LEAST = (8, 0)
"""Compute capability from which Triton's kernels are chosen: Ampere's, the first that multiplies in bf16."""


class Probe(NamedTuple):
    """What a device can do, told without running anything on it: its type, its compute capability where it is one of
    NVIDIA's, and which libraries can be found."""

    device: str
    capability: tuple[int, int] | None = None
    triton: bool = False
    flex: bool = False
    liger: bool = False


class Kernels(NamedTuple):
    """Why attention over a prefix tree is not by torch's `flex_attention`, and norms and gates not by Liger's kernels;
    nothing where they are."""

    not_flex: str
    not_liger: str


def probe(device: torch.device) -> Probe:
    """What this device can do. On any other than a CUDA one no library is looked for."""
    if device.type != "cuda":
        return Probe(device.type)
    flex, triton, liger = map(_found, ("torch.nn.attention.flex_attention", "triton", "liger_kernel"))
    # torch for AMD's devices has this type as well, and numbers them otherwise
    capability = torch.cuda.get_device_capability(device) if torch.version.cuda else None
    return Probe(device.type, capability, triton, flex, liger)


def chosen(given: Probe) -> Kernels:
    """Triton's kernels where they run, each where its library is there; else ours."""
    why = _not_by_triton(given)
    return Kernels(
        not_flex=why or ("" if given.flex else "this torch has no `flex_attention`"),
        not_liger=why or ("" if given.liger else "`liger_kernel` is not installed"),
    )


def _not_by_triton(given: Probe) -> str:
    if given.device != "cuda":
        return f"the device is `{given.device}`"
    if given.capability is None:
        return "the device is none of NVIDIA's"
    if given.capability < LEAST:
        has, needs = (".".join(map(str, one)) for one in (given.capability, LEAST))
        return f"the device's compute capability is {has}, below {needs}"
    return "" if given.triton else "`triton` is not installed"


def _found(name: str) -> bool:
    return find_spec(name) is not None
