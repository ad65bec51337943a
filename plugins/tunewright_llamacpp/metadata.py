"""What a GGUF says of its model beside tensors and tokenizer: sizes, rotation, context, how answers are drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.errors import Refused
from tunewright_llamacpp.families import Family, library

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
FREQUENCIES = "rope_freqs.weight"


def write(writer: Any, family: Family, folder: Path, name: str, kind: str) -> None:
    """Write it. Raises `Refused` for what llama.cpp computes otherwise than the model was trained with."""
    gguf, config = library(), family.config
    if config.hidden_act not in ("silu", "swish"):
        raise Refused(f"the model's activation is {config.hidden_act}, and llama.cpp's {family.architecture} has SiLU")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[kind]])
    if kind == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(family.head_size)
    writer.add_value_length(family.head_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(family.head_size)
    _write_rotation(writer, config)
    _write_drawing(writer, folder)


def context(config: Any) -> int:
    """Tokens that the file offers. llama.cpp gives these families no sliding window: within one, all is seen anyway."""
    longest, window = int(config.max_position_embeddings), getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or []
    slides = window and ("sliding_attention" in layers or not layers)
    return min(longest, int(window)) if slides and window else longest


def computed(family: Family) -> dict[str, Any]:
    """Tensors that follow from the config, by their names in a GGUF: Llama 3's rescaling of the rotation, as llama.cpp
    divides each frequency by it."""
    rotation = _rotation(family.config)
    if rotation["rope_type"] != "llama3":
        return {}
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](family.config, torch.device("cpu"))
    places = torch.arange(0, family.head_size, 2, dtype=torch.float32) / family.head_size
    return {FREQUENCIES: (1.0 / rotation["rope_theta"] ** places) / scaled.float()}


def _rotation(config: Any) -> Mapping[str, Any]:
    found = dict(getattr(config, "rope_parameters", None) or {})
    found.setdefault("rope_type", "default")
    known = {"default", "linear", "llama3"}
    if found["rope_type"] not in known or found.get("partial_rotary_factor", 1.0) != 1.0 or "rope_theta" not in found:
        raise Refused(
            f"the model's rotation ({json.dumps(found, sort_keys=True)}) is not written as GGUF here",
            fix=f"those of type {', '.join(sorted(known))} are; others by llama.cpp's own converter, from `merged`",
        )
    return found


def _write_rotation(writer: Any, config: Any) -> None:
    rotation = _rotation(config)
    writer.add_rope_freq_base(rotation["rope_theta"])
    if rotation["rope_type"] == "linear":
        writer.add_rope_scaling_type(library().RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rotation["factor"])


def _write_drawing(writer: Any, folder: Path) -> None:
    """A repetition penalty that the model asks for, over the whole context as transformers has it."""
    try:
        asked = json.loads((folder / "generation_config.json").read_text("utf-8"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise Refused(f"{folder.name}/generation_config.json cannot be read: {error}") from error
    penalty = asked.get("repetition_penalty") or 1.0
    if penalty != 1.0:
        writer.add_sampling_penalty_repeat(float(penalty))
        writer.add_sampling_penalty_last_n(-1)
