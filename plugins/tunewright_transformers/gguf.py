"""A GGUF file becomes an ordinary model folder: bf16 safetensors, config, tokenizer, chat template."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunewright.errors import MissingExtra
from tunewright_transformers.library import library
from tunewright_transformers.loader import load

READ, TABLE, BAR = "GGUFReader", "get_tensor_name_map", "tqdm"
"""What reads the header, what builds the table of names, what draws a bar: names in gguf and in transformers."""


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
    """Within it the file's header is parsed once, the table of tensor names built once, and no bar is drawn.

    transformers parses it three times and builds the table once a module: 15 of 24 seconds for 98 MB. Where a later
    release does otherwise, this does nothing.
    """
    library()
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("model_source/pypi", "train", error) from error
    from transformers import modeling_gguf_pytorch_utils as reading

    replaced = [(module, name, getattr(module, name)) for module, name in ((gguf, READ), (gguf, TABLE), (reading, BAR))]
    try:
        setattr(gguf, READ, functools.cache(getattr(gguf, READ)))
        setattr(gguf, TABLE, functools.cache(getattr(gguf, TABLE)))
        setattr(reading, BAR, lambda items, **shown: items)
        yield
    finally:
        for module, name, before in replaced:
            setattr(module, name, before)
