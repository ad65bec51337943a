"""An adapter's two files as PEFT lays them out, written to stable bytes and read with distrust."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from tunewright.errors import Refused
from tunewright_peft.arguments import UNSAFE
from tunewright_peft.tuners import LOADS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
HARMLESS = ("megatron_core", "peft_type")  # PEFT writes the first into every LoRA; the second is no argument
OF_OTHERS = ("pissa", "olora", "corda", "loftq")  # starts for which PEFT changes the base's weights
NOTHING: tuple[Any, ...] = (None, False, {}, [])


def write(config: Any, tensors: dict[str, Any], out: Path) -> None:
    """Both files, mode 0644. Equal values give equal bytes: sets are sorted, and no path of this machine is written."""
    from safetensors.torch import save_file

    plain = {**config.to_dict(), "inference_mode": True, "base_model_name_or_path": None}
    text = json.dumps(plain, indent=2, sort_keys=True, default=sorted)
    (out / CONFIG).write_text(text + "\n", "utf-8")
    # tied modules are one memory under two names, which safetensors refuses: each gets its own
    whole = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(tensors.items())}
    save_file(whole, out / WEIGHTS, metadata={"format": "pt"})
    for name in (CONFIG, WEIGHTS):
        (out / name).chmod(0o644)  # safetensors writes 0600 whatever the umask


def read_kind(saved: Path) -> str:
    """PEFT's name of the method that a folder was saved by. Raises `Refused` where it has no config."""
    return str(read_plain(saved).get("peft_type"))


def read_config(saved: Path, peft_type: str) -> Any:
    """PEFT's config of a saved adapter. Raises `Refused` for another method, unknown keys, or code named in it."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    of = PEFT_TYPE_TO_CONFIG_MAPPING[peft_type]  # type: ignore[index]
    plain = read_plain(saved)
    unknown = sorted(set(plain) - {field.name for field in fields(of)})
    if plain.get("peft_type") != peft_type or plain.get("task_type") != "CAUSAL_LM":
        found = f"{plain.get('peft_type')} of {plain.get('task_type')}"
        raise Refused(f"{saved.name} is not a {peft_type} of a causal language model, but {found}")
    if unknown:
        raise Refused(f"{saved.name}/{CONFIG} has keys that this PEFT does not know: {', '.join(unknown)}")
    _refuse_code(saved, plain)
    try:
        return of(**{name: value for name, value in plain.items() if name not in HARMLESS})
    except (TypeError, ValueError) as error:
        raise Refused(f"{saved.name}/{CONFIG} is no config of {peft_type}: {error}") from error


def read_plain(saved: Path) -> dict[str, Any]:
    """The config of a saved adapter as JSON has it, nothing of it checked. Raises `Refused` where it cannot be read."""
    try:
        return dict(json.loads((saved / CONFIG).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{saved.name}/{CONFIG} cannot be read: {error}") from error


def _refuse_code(saved: Path, plain: dict[str, Any]) -> None:
    """Refuse names of code, or of models, that PEFT would import, and methods that change the base."""
    for name in sorted({"auto_mapping", *UNSAFE, *LOADS} & set(plain)):
        if plain[name] not in (*NOTHING, "megatron.core"):
            raise Refused(f"{saved.name}/{CONFIG} names code in `{name}`, or changes the base by it")
    start = plain.get("init_lora_weights")
    if isinstance(start, str):
        if start.startswith(OF_OTHERS):
            raise Refused(
                f"{saved.name} is for another base: it started by `{start}`, which changed the base's weights",
                fix="save it by PEFT's `path_initial_model_for_weight_conversion`, which makes it a plain LoRA",
            )
        plain["init_lora_weights"] = True  # its values are read next


def read_shapes(saved: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the adapter's tensors, without their numbers. Raises `Refused` for damage."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(saved / WEIGHTS, "pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise Refused(f"{saved.name}/{WEIGHTS} cannot be read: {error}") from error


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
