"""A model's folder becomes one GGUF file: read tensor by tensor, written some rows at a time, and counted.

What is held at once is a block of rows, so a model that is larger than the memory is written as well. Matrices take the
type that is asked for; vectors, such as norms, stay in fp32, as llama.cpp computes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.errors import Refused
from tunewright.parts.loader import Tokenizer
from tunewright_llamacpp import metadata, vocabulary
from tunewright_llamacpp.families import EMBEDDING, HEAD, Family, library
from tunewright_llamacpp.header import read_header
from tunewright_transformers.loader import load
from tunewright_transformers.tensors import Tensors, give_back

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""Our names of types, and the package `gguf`'s."""
FILE = "model.gguf"
ALIGNED = 32  # bytes to which the format pads a tensor
AT_ONCE = 1 << 22  # numbers that are converted and checked together


class Planned(NamedTuple):
    """A tensor to write: its name in transformers (empty for one that is computed), and what it is in the GGUF."""

    source: str
    name: str
    heads: int
    shape: tuple[int, ...]
    kind: str


def write_model(folder: Path, tokenizer: Tokenizer, out: Path, kind: str, name: str) -> None:
    """Write the model of `folder` as the GGUF file `out`, its matrices as `kind`, one of `TYPES`.

    `name` is what the file calls it. Raises `Refused`, with the tensor's name where it is one: for a family, rotation
    or tokenizer that is not known to be llama.cpp's, for a tensor without a place or with a number that does not fit.
    """
    gguf = library()
    family = Family(load("AutoConfig", folder))
    tensors, computed = Tensors(folder), metadata.computed(family)
    planned = list(_plan(family, tensors, kind, computed))
    writer = gguf.GGUFWriter(out, family.architecture)
    try:
        metadata.write(writer, family, folder, name, kind)
        vocabulary.write(writer, tokenizer, _vocabulary(planned))
        for one in planned:
            types = gguf.GGMLQuantizationType[one.kind]
            # beside the type and the bytes, numpy's type is of no matter
            writer.add_tensor_info(one.name, one.shape, None, _bytes(one), raw_dtype=types)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write(writer, family, planned, tensors, computed)
    except BaseException:
        writer.close()
        out.unlink(missing_ok=True)
        raise
    writer.close()
    out.chmod(0o644)
    _prove(out, planned)


def _plan(family: Family, tensors: Tensors, kind: str, computed: Mapping[str, Any]) -> Iterator[Planned]:
    """Every tensor of the folder exactly once, and those that follow from the config. Raises `Refused`."""
    given, tied = set(tensors.stored), bool(getattr(family.config, "tie_word_embeddings", False))
    if not tied and HEAD not in given:
        raise Refused(f"the model's files hold no `{HEAD}`: a GGUF without one takes the embeddings in its place",
                      fix="fetch or merge it again")  # fmt: skip
    if tied and HEAD in given:
        _refuse_other_head(tensors)
        given.remove(HEAD)  # one memory under two names, which a GGUF holds under the embeddings' alone
    for source in sorted(given):
        placed, shape = family.place(source), tensors.shape(source)
        yield Planned(source, placed.name, placed.heads, shape, _kind(source, shape, kind))
    for name, numbers in computed.items():
        yield Planned("", name, 0, tuple(numbers.shape), "F32")


def _vocabulary(planned: list[Planned]) -> int:
    """Rows of the embeddings. Raises `Refused` where there are none."""
    for one in planned:
        if one.source == EMBEDDING:
            return one.shape[0]
    raise Refused(f"the model's files hold no `{EMBEDDING}`", fix="fetch or merge it again")


def _refuse_other_head(tensors: Tensors) -> None:
    import torch

    if EMBEDDING not in tensors or not torch.equal(tensors.read(HEAD), tensors.read(EMBEDDING)):
        raise Refused(f"config.json ties `{HEAD}` to the embeddings, and the files hold another one",
                      fix="merge it again")  # fmt: skip


def _kind(source: str, shape: tuple[int, ...], kind: str) -> str:
    if len(shape) < 2:
        return "F32"
    if kind == "q8_0" and shape[-1] % 32:
        raise Refused(f"`{source}` has rows of {shape[-1]} numbers, and Q8_0 packs 32 together", fix="take `type: f16`")
    return TYPES[kind]


def _write(writer: Any, family: Family, planned: list[Planned], tensors: Tensors, computed: Mapping[str, Any]) -> None:
    (file,) = writer.fout
    for one in planned:
        writer.write_padding(file, file.tell())
        tensor = tensors.read(one.source) if one.source else computed[one.name]
        for part in _parts(family, tensor, one):
            part.tofile(file)
        del tensor
        give_back()
    writer.write_padding(file, file.tell())


def _parts(family: Family, tensor: Any, one: Planned) -> Iterator[Any]:
    """The tensor's rows in llama.cpp's order and type, a block at a time. Raises `Refused` for what is no number."""
    import numpy as np
    import torch

    gguf = library()
    rows = tensor.reshape(1, -1) if tensor.dim() == 1 and not one.heads else tensor
    order_of = torch.from_numpy(family.order(len(rows), one.heads)) if one.heads else None
    step = max(1, AT_ONCE // max(1, _count(tuple(rows.shape[1:]))))
    for start in range(0, len(rows), step):
        block = rows[start : start + step] if order_of is None else rows[order_of[start : start + step]]
        numbers = block.float().numpy()
        if not np.isfinite(numbers).all():
            raise Refused(f"`{one.source or one.name}` has numbers that are infinite or none: nothing is written",
                          fix="train it again")  # fmt: skip
        with np.errstate(over="ignore"):
            made = gguf.quantize(np.ascontiguousarray(numbers), gguf.GGMLQuantizationType[one.kind])
        if one.kind == "F16" and not np.isfinite(made).all():
            raise Refused(f"`{one.source}` has numbers that are too large for f16: nothing is written",
                          fix="take `type: f32`")  # fmt: skip
        yield made


def _prove(out: Path, planned: list[Planned]) -> None:
    """The file, read again, holds what was planned and nothing else, to its last byte. Raises `Refused`."""
    gguf, header = library(), read_header(out)
    meant = {one.name: (one.shape, int(gguf.GGMLQuantizationType[one.kind])) for one in planned}
    found = {name: (held.shape, held.kind) for name, held in header.tensors.items()}
    unlike = sorted(name for name in found.keys() | meant.keys() if found.get(name) != meant.get(name))
    last = max(planned, key=lambda one: header.tensors[one.name].offset) if not unlike else planned[0]
    end = 0 if unlike else header.data + header.tensors[last.name].offset + _bytes(last)
    if unlike or not end <= out.stat().st_size < end + ALIGNED:
        out.unlink()
        what = f"`{unlike[0]}` does not stand in the GGUF as meant" if unlike else "the GGUF has another length"
        raise Refused(
            f"of {len(meant)} tensors, {len(found)} were written: {what}", fix="check the disk, then export again"
        )


def _bytes(one: Planned) -> int:
    """Of a tensor in its type: so many numbers are packed into so many bytes."""
    gguf = library()
    numbers, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[one.kind]]
    return int(_count(one.shape) // numbers * size)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for axis in shape:
        count *= axis
    return count


def context(file: Path) -> int:
    """Tokens of context that a GGUF says its model was made for. Raises `Refused` where it is none."""
    values = read_header(file).values
    found = values.get(f"{values.get('general.architecture')}.context_length")
    if not isinstance(found, int):
        raise Refused(f"{file.name} says no length of context: it holds no language model", fix="export it again")
    return found
