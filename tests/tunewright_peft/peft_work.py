"""What the tests of this folder do with an adapter: load, train, save."""

from __future__ import annotations

import torch

from tiny import backend
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

IDS = torch.arange(3, 40)[None]


def load(folder, kind=NoQuantizer, dtype="fp32", use="infer"):
    return backend(TransformersLoader).model(folder, backend(kind), dtype, use)


def moved(model, step=0.05):
    """The model as a trainer leaves it: every trainable number moved, the same way every time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters(), key=lambda named: named[0]):
            if parameter.requires_grad:
                parameter += (step * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype)
    return model


def wrap(folder, method=None, kind=NoQuantizer, dtype="fp32", seed=0, **options):
    method = method or backend(Lora, **options)
    torch.manual_seed(seed)
    return method.wrap(load(folder, kind, dtype, "train"), None)


def save(method, model, out):
    out.mkdir()
    method.save(model, out)
    return out


def merge(method, folder, saved, out, dtype="fp32", *, trained="fp32", kind=NoQuantizer, into="original", identity=""):
    """The whole model of a base and what was saved, in the folder `out`."""
    out.mkdir(exist_ok=True)
    whole = Whole(backend(TransformersLoader), backend(kind), method, trained, identity_of)
    whole.write(folder, identity or identity_of(folder), saved, out, dtype, into)
    return out


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


def apart(one, other):
    """Relative distance of two models' logits."""
    first, second = logits(one), logits(other)
    return ((first - second).norm() / second.norm()).item()
