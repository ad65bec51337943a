"""An adapter's two files as PEFT lays them out, written to stable bytes and read with distrust."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from tunewright.errors import Refused

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")


def write(config: Any, tensors: dict[str, Any], out: Path) -> None:
    """Both files, mode 0644. Equal values give equal bytes: sets are sorted, and no path of this machine is written."""
    from safetensors.torch import save_file

    plain = {**config.to_dict(), "inference_mode": True, "base_model_name_or_path": None}
    text = json.dumps(plain, indent=2, sort_keys=True, default=sorted)
    (out / CONFIG).write_text(text + "\n", "utf-8")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    save_file(whole, out / WEIGHTS, metadata={"format": "pt"})
    for name in (CONFIG, WEIGHTS):
        (out / name).chmod(0o644)  # safetensors writes 0600 whatever the umask


def read_config(saved: Path) -> Any:
    """PEFT's `LoraConfig` of a saved adapter. Raises `Refused` for anything but a causal LoRA without code in it."""
    from peft import LoraConfig

    try:
        plain = dict(json.loads((saved / CONFIG).read_text("utf-8")))
        unknown = sorted(set(plain) - {field.name for field in fields(LoraConfig)})
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{saved.name}/{CONFIG} cannot be read: {error}") from error
    if plain.get("peft_type") != "LORA" or plain.get("task_type") != "CAUSAL_LM":
        raise Refused(f"{saved.name} is not a LoRA of a causal language model")
    if unknown:
        raise Refused(f"{saved.name}/{CONFIG} has keys that this PEFT does not know: {', '.join(unknown)}")
    for name in ("auto_mapping", "megatron_config", "megatron_core"):  # names of code that PEFT would import
        if plain.get(name) not in (None, "megatron.core"):
            raise Refused(f"{saved.name}/{CONFIG} names code in `{name}`")
    return LoraConfig(**{name: value for name, value in plain.items() if name not in ("megatron_core", "peft_type")})


def read_tensors(saved: Path) -> dict[str, Any]:
    """The adapter's tensors. Raises `Refused` for pickles, damage, and numbers that are none."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pickles = sorted(path.name for pattern in PICKLES for path in saved.glob(pattern))
    if pickles:
        raise Refused(f"{saved.name} holds a pickle, `{pickles[0]}`, which can run code when it is read")
    try:
        tensors = load_file(saved / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise Refused(f"{saved.name}/{WEIGHTS} cannot be read: {error}") from error
    broken = sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    if broken:
        raise Refused(f"{saved.name}: `{broken[0]}` has numbers that are not finite")
    return tensors
