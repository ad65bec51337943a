"""What the tests of this folder do: train a little, export, read a GGUF back."""

from __future__ import annotations

import gguf
import torch
from transformers import AutoModelForCausalLM

from tiny import backend
from tunewright.host import Host
from tunewright.parts import Cap
from tunewright.parts.exporter import Trained
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

IDS = torch.arange(3, 40)[None]


def loader():
    return backend(TransformersLoader)


def trained(base, folder, method=None, step=0.05, **options):
    """A moved adapter over `base`, saved in `folder`, as an exporter is given it."""
    method = method or backend(Lora, **{"r": 4, "alpha": 8, **options})
    torch.manual_seed(0)
    model = method.wrap(loader().model(base, backend(NoQuantizer), "fp32", "train"), None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter += step * torch.randn(parameter.shape, generator=generator)
    folder.mkdir()
    method.save(model, folder)
    whole = Whole(loader(), backend(NoQuantizer), method, "fp32", identity_of)
    adapts = Cap.ADAPTS in method.offers()
    tokenizer = loader().tokenizer(base)
    return Trained(folder, base, identity_of(base), "org/base", "transformers", tokenizer, adapts, whole)


def export(what, out, **options):
    """What the exporter writes into the new folder `out`, and its Form."""
    out.mkdir()
    return Host().make("exporter", options).export(what, out)


def read(folder, file="model.gguf"):
    """The model that transformers' own reader makes of a GGUF."""
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def tensors(file):
    """Each tensor of a GGUF in fp32, by the package `gguf`'s own reader."""
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(file).tensors}


def value(file, key):
    """One value of a GGUF's head, by the package `gguf`'s own reader."""
    field = gguf.GGUFReader(file).fields[key]
    return field.contents()
