"""A LoRA adapter as GGUF: its own numbers in fp32, under llama.cpp's names, every tensor accounted for.

llama.cpp scales each product B A by the file's one alpha over the product's rank. It passes over what it does not know
of a norm without a word, so nothing but matrices A and B is ever written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.digest import digest_tensors
from tunewright.errors import Refused
from tunewright.handoff.bound import KEY
from tunewright.handoff.verify import model_identity
from tunewright_llamacpp.families import EMBEDDING, HEAD, Family, library
from tunewright_llamacpp.header import read_header
from tunewright_transformers.loader import load

FILE = "adapter.gguf"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SAVED = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
HALVES = {"A": "lora_a", "B": "lora_b"}
APART = "export the whole model as `gguf`, or the adapter as `adapter`"
NOTHING: tuple[Any, ...] = (None, False, {}, [], "none")
PLAIN = {
    "alora_invocation_tokens": "it is active from some tokens on", "bias": "it trains biases",
    "fan_in_fan_out": "its matrices stand the other way round", "lora_bias": "B has a bias",
    "modules_to_save": "it holds modules that were trained whole",
    "trainable_token_indices": "it holds tokens that were trained", "target_parameters": "it changes bare parameters",
    "use_dora": "it is DoRA", "layer_replication": "it repeats layers", "use_qalora": "it is QA-LoRA",
}  # fmt: skip
"""Keys of an adapter's config that make it more than matrices A and B with one scale, and why."""


class Half(NamedTuple):
    """One matrix: its saved name, its name in the GGUF, and how many heads its rows are reordered within."""

    saved: str
    name: str
    heads: int


def write_adapter(saved: Path, base: Path, out: Path, name: str, of: str | None = None) -> None:
    """Write the LoRA of the folder `saved`, over the model of the folder `base`, as the GGUF file `out`.

    `of`: the base's identity, which the file then names, as an adapter of PEFT does that was trained here.
    Raises `Refused` for what a GGUF cannot say of an adapter, and by a tensor's name where one has no place there.
    """
    gguf = library()
    config, tensors, family = _config(saved), _tensors(saved), Family(load("AutoConfig", base))
    halves = list(_halves(tensors, family))
    _refuse_less(config, tensors, family)
    writer = gguf.GGUFWriter(out, family.architecture)
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(name)
        if of is not None:
            writer.add_string(KEY, of)  # llama.cpp passes over it
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(config, tensors))
        for half in halves:
            numbers = tensors[half.saved].float().numpy()
            rows = family.order(len(numbers), half.heads) if half.heads else slice(None)
            writer.add_tensor(half.name, numbers[rows])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    except BaseException:
        writer.close()
        out.unlink(missing_ok=True)
        raise
    writer.close()
    out.chmod(0o644)


def refuse_other_base(file: Path, base: Path) -> None:
    """Raise `Refused` where a GGUF adapter names another base than the model of the folder `base`.

    Its tensors would fit another one of the same shape. One that names none, as others write them, is taken.
    """
    of = read_header(file).values.get(KEY)
    if of is None:
        return
    try:
        here = model_identity(base)["identity"]
    except (OSError, ValueError) as error:
        raise Refused(f"{base.name} holds no whole model: {error}", fix="fetch it again") from error
    if of != here:
        raise Refused(
            f"the adapter in `{file.name}` is of another base ({str(of)[:12]}) than the one beside it ({here[:12]})",
            fix="name the base that it was trained on",
        )


def identity(file: Path, base: Path) -> str:
    """The digest of the trained tensors that a GGUF adapter over `base` carries, as the method that trained them has
    it. Raises `Refused` where the file is none, or holds a tensor that is no half of a module's LoRA."""
    import torch

    family, found = Family(load("AutoConfig", base)), {}
    names = {family.place(f"{module}.weight").name: module for module in _modules(family)}
    for tensor in _read(file).tensors:
        name, _, half = str(tensor.name).rpartition(".")
        if name not in names or half not in HALVES.values():
            raise Refused(f"{file.name} holds a tensor `{tensor.name}`, which is none of a LoRA over this base")
        module = names[name]
        heads = family.place(f"{module}.weight").heads if half == HALVES["B"] else 0
        values = tensor.data if not heads else tensor.data[_inverse(family.order(len(tensor.data), heads))]
        found[f"base_model.model.{module}.lora_{half[-1].upper()}.weight"] = torch.from_numpy(values.copy())
    return digest_tensors(found.items())


def _modules(family: Family) -> Iterator[str]:
    for layer in range(family.config.num_hidden_layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"model.layers.{layer}.self_attn.{name}"
        for name in ("gate_proj", "up_proj", "down_proj"):
            yield f"model.layers.{layer}.mlp.{name}"
    yield HEAD.removesuffix(".weight")


def _halves(tensors: Mapping[str, Any], family: Family) -> Iterator[Half]:
    """Every tensor of the adapter, or `Refused` by its name: one that was left out would change what it answers."""
    tied = bool(getattr(family.config, "tie_word_embeddings", False))
    for saved in sorted(tensors):
        found = SAVED.fullmatch(saved)
        if found is None:
            raise Refused(f"`{saved}` has no place in a GGUF adapter, which holds matrices A and B alone", fix=APART)
        weight = f"{found['module']}.weight"
        if weight == EMBEDDING or (weight == HEAD and tied):
            why = "the model's head and embeddings are one tensor" if tied else "embeddings stand the other way round"
            raise Refused(f"`{saved}` has no place in a GGUF adapter: {why}, and llama.cpp would not answer as trained",
                          fix=APART)  # fmt: skip
        placed = family.place(weight)
        other = saved.replace(*((".lora_A.", ".lora_B.") if found["half"] == "A" else (".lora_B.", ".lora_A.")))
        if other not in tensors:
            raise Refused(f"`{saved}` stands without `{other}`: the adapter is not whole", fix="train it again")
        yield Half(saved, f"{placed.name}.{HALVES[found['half']]}", placed.heads if found["half"] == "B" else 0)


def _refuse_less(config: Mapping[str, Any], tensors: Mapping[str, Any], family: Family) -> None:
    """Raise `Refused` where a module that the config names has no matrices: what was trained of it is lost."""
    targets = config.get("target_modules")
    if not isinstance(targets, list) or config.get("layers_to_transform") or config.get("exclude_modules"):
        return
    for module in _modules(family):
        named = any(f".{module}".endswith(f".{target}") for target in targets)
        if named and f"base_model.model.{module}.lora_A.weight" not in tensors:
            raise Refused(f"the adapter names `{module}` and holds no matrices of it", fix="train it again")


def _alpha(config: Mapping[str, Any], tensors: Mapping[str, Any]) -> float:
    """The one alpha by which llama.cpp scales every module as PEFT does. Raises `Refused` where they need several."""
    ranks = {len(tensor) for name, tensor in tensors.items() if ".lora_A." in name}
    several = bool(config.get("alpha_pattern")) or (bool(config.get("use_rslora")) and len(ranks) > 1)
    if several:
        raise Refused("the adapter's modules are scaled apart (`alpha_pattern`, or rsLoRA with several ranks), and a "
                      "GGUF has one alpha for all", fix=APART)  # fmt: skip
    alpha = float(config["lora_alpha"])
    # PEFT scales by alpha / √r: by (alpha · √r) / r
    return alpha * math.sqrt(next(iter(ranks))) if config.get("use_rslora") else alpha


def _config(saved: Path) -> dict[str, Any]:
    try:
        found = dict(json.loads((saved / CONFIG).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{saved.name}/{CONFIG} cannot be read: {error}", fix=APART) from error
    if found.get("peft_type") != "LORA":
        raise Refused(f"{saved.name} is a {found.get('peft_type')}, and llama.cpp knows LoRA alone", fix=APART)
    for key, why in PLAIN.items():
        if found.get(key) not in NOTHING:
            raise Refused(f"the adapter cannot be said as a GGUF: {why} (`{key}`)", fix=APART)
    if not isinstance(found.get("lora_alpha"), (int, float)) or found["lora_alpha"] == 0:
        raise Refused(f"{saved.name}/{CONFIG} names no `lora_alpha` that scales anything", fix="train it again")
    return found


def _tensors(saved: Path) -> dict[str, Any]:
    """The adapter's tensors. Raises `Refused` for damage, and numbers that are none."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(saved / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise Refused(f"{saved.name}/{WEIGHTS} cannot be read: {error}", fix="train it again") from error
    broken = sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if broken or not tensors:
        what = f"`{broken[0]}` has numbers that are not finite" if broken else "it holds no tensor"
        raise Refused(f"{saved.name}: {what}", fix="train it again")
    return tensors


def _read(file: Path) -> Any:
    try:
        return library().GGUFReader(file)
    except (OSError, ValueError, IndexError) as error:
        raise Refused(f"{file.name} is no whole GGUF: {error}", fix="export it again") from error


def _inverse(places: Any) -> Any:
    import numpy as np

    return np.argsort(places)
