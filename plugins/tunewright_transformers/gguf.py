"""A GGUF file becomes an ordinary model folder: bf16 safetensors, config, tokenizer, chat template."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunewright.errors import MissingExtra
from tunewright_transformers.loader import load


def convert_gguf(gguf: Path, out: Path) -> None:
    """Write the model that `gguf` holds into the folder `out`. Raises `BadInput` where it is not a model's GGUF.

    The weights are unpacked, so the quantization that the loader notes on the model is dropped before saving: with
    it, the folder would be taken for a packed one.
    """
    with _read_once():
        model = load("AutoModelForCausalLM", gguf.parent, gguf_file=gguf.name, dtype="bfloat16")
        tokenizer = load("AutoTokenizer", gguf.parent, gguf_file=gguf.name)
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600 whatever the umask


@contextmanager
def _read_once() -> Iterator[None]:
    """Within it the file's header is parsed once and the table of tensor names built once.

    transformers parses it three times and builds the table once a module: 15 of 24 seconds for 98 MB. Where a later
    release does otherwise, this does nothing.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("model_source/pypi", "train", error) from error
    before = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, function in before.items():
            setattr(gguf, name, functools.cache(function))
        yield
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)
