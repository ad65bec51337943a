"""A model's tensors in its folder: each read when it is asked for, and written one after another.

So a model that is larger than the memory becomes another one: what is held at once is a tensor, never a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from tunewright.errors import Refused
from tunewright.handoff.verify import Tensor, read_tensors
from tunewright_transformers.layout import INDEX, PICKLES, WEIGHTS

TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip
"""safetensors' names of types, and torch's."""
FLOATS = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
"""The spec's names of types, and safetensors'."""
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4}
ONE_FILE = "model.safetensors"
AT_ONCE = 1 << 22  # numbers that are converted and checked together


class Stored(NamedTuple):
    """Where a tensor lies: its file, and its first byte there."""

    file: Path
    about: Tensor
    start: int


class Tensors:
    """The tensors of a model's folder by name, in one file or in those that its index names.

    Raises `Refused` where the files are no whole safetensors, or pickles alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = _files(folder)
        self.stored = {stored.about.name: stored for file in self.files for stored in _headers(file)}

    def __contains__(self, name: str) -> bool:
        return name in self.stored

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self.stored[name].about.shape)

    def read(self, name: str) -> Any:
        """A tensor in the type that it is stored in, whose memory is the file itself until it is written to.

        What is written to it stays in this process: the file is never changed.
        """
        import torch

        file, about, start = self.stored[name]
        dtype = getattr(torch, TYPES.get(about.dtype, ""), None)
        if dtype is None:
            raise Refused(f"`{name}` of {self.folder.name} is stored as {about.dtype}: the base is quantized",
                          fix="take its unquantized weights")  # fmt: skip
        if about.end == about.start:
            return torch.empty(about.shape, dtype=dtype)
        before = start % mmap.ALLOCATIONGRANULARITY
        with file.open("rb") as opened:  # of this tensor alone: a shard may be larger than the memory
            length = before + about.end - about.start
            mapped = mmap.mmap(opened.fileno(), length, access=mmap.ACCESS_COPY, offset=start - before)
        count = (about.end - about.start) // dtype.itemsize
        return torch.frombuffer(mapped, dtype=dtype, count=count, offset=before).reshape(about.shape)


def placed(outline: Any, tensors: Tensors) -> dict[str, str]:
    """The name in the files of each of a model's tensors that they hold; a tied one has that of its partner.

    A file may leave out the prefix of the model's body, as older ones do.
    """
    held, prefix = outline.state_dict(keep_vars=True), f"{outline.base_model_prefix}."
    found = {}
    for name in held:
        written = [alias for alias in (name, name.removeprefix(prefix)) if alias in tensors]
        found |= {name: written[0]} if written else {}
    own = {id(held[name]): place for name, place in found.items()}
    return {
        name: found.get(name) or own[id(value)] for name, value in held.items() if name in found or id(value) in own
    }


class Rewritten(NamedTuple):
    """How a model's tensors are written anew."""

    dtype: str
    """`bf16`, `fp16` or `fp32`: of every tensor of floats."""
    change: Callable[[str, Any], Any]
    """What stands in a tensor's place, by its name in the file and as it was read; of the same shape."""
    more: Mapping[str, tuple[int, ...]] = {}
    """Tensors that no file has, and their shapes: `change` gives them too, from None."""
    kept: Callable[[str], bool] = lambda name: False
    """Tensors that stay in fp32 whatever `dtype` says, as the model itself keeps them."""


def rewrite(source: Tensors, out: Path, how: Rewritten) -> None:
    """Write a model's tensors into the empty folder `out`, under the same names in the same files, and their index.

    Raises `Refused` by a tensor's name where a number is not finite; then `out` is empty again.
    """
    written: dict[str, str] = {}
    try:
        total = 0
        for file in source.files:
            entries = [_entry(stored.about, how) for stored in source.stored.values() if stored.file == file]
            if file == source.files[-1]:
                entries += [(name, _float(name, how), list(shape)) for name, shape in how.more.items()]
            entries.sort(key=lambda entry: (-_itemsize(entry[1]), entry[0]))  # as the library aligns them
            total += _write(out / file.name, entries, _changed(source, entries, how))
            written |= {name: file.name for name, *_ in entries}
        if len(source.files) > 1 or source.files[0].name != ONE_FILE:
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(written.items()))}
            write_json(out / INDEX, index)
    except BaseException:
        for path in out.iterdir():
            path.unlink()
        raise


def write_config(config: Path, out: Path, dtype: str, **changes: Any) -> None:
    """A config.json for weights in `dtype`, from that of the same model: without what only held where it lay.

    Raises `Refused` where it cannot be read.
    """
    try:
        found = dict(json.loads(config.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{config.parent.name}/{config.name} cannot be read: {error}") from error
    for name in ("_name_or_path", "torch_dtype"):
        found.pop(name, None)
    # trainers switch the cache off, and a served model would recompute every token
    found |= {"dtype": TYPES[FLOATS[dtype]], **({"use_cache": True} if "use_cache" in found else {}), **changes}
    write_json(out / config.name, found)


def write_json(path: Path, value: Any) -> None:
    """A JSON file as a model's folder has them: sorted, two spaces deep, mode 0644."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
    path.chmod(0o644)


def _files(folder: Path) -> list[Path]:
    index = folder / INDEX
    try:
        if index.is_file():
            names = sorted(set(map(str, json.loads(index.read_text("utf-8"))["weight_map"].values())))
        else:
            names = [ONE_FILE] if (folder / ONE_FILE).is_file() else sorted(p.name for p in folder.glob(WEIGHTS))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{folder.name}/{INDEX} names no shards: {error}", fix="fetch the model again") from error
    if not names or any(list(folder.glob(pattern)) for pattern in PICKLES):
        raise Refused(f"{folder.name} does not hold its weights as safetensors alone")
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise Refused(f"{folder.name}/{INDEX} names a file outside its folder: `{outside[0]}`")
    return [folder / name for name in names]


def _headers(file: Path) -> Iterator[Stored]:
    try:
        with file.open("rb") as opened:
            found = read_tensors(opened, file.stat().st_size)
            first = opened.tell()
    except (OSError, ValueError) as error:
        raise Refused(f"{file.name} is damaged: {error}", fix="fetch or train it again") from error
    for tensor in found:
        yield Stored(file, tensor, first + tensor.start)


def _entry(about: Tensor, how: Rewritten) -> tuple[str, str, list[int]]:
    is_float = about.dtype in ("F16", "BF16", "F32", "F64")
    return about.name, _float(about.name, how) if is_float else about.dtype, list(about.shape)


def _float(name: str, how: Rewritten) -> str:
    return "F32" if how.kept(name) else FLOATS[how.dtype]


def _itemsize(dtype: str) -> int:
    return SIZES.get(dtype, 8)


def _changed(source: Tensors, entries: Iterable[tuple[str, str, list[int]]], how: Rewritten) -> Iterator[Any]:
    """Each entry's numbers, in pieces; a tensor is gone before the next is read."""
    import torch

    for name, dtype, shape in entries:
        tensor = how.change(name, source.read(name) if name in source else None)
        if list(tensor.shape) != shape:
            raise Refused(f"merging would change the shape of `{name}` from {shape} to {list(tensor.shape)}",
                          fix="keep the adapter apart from its base")  # fmt: skip
        for part in _parts(tensor):
            made = part.to(getattr(torch, TYPES[dtype]))
            if not _is_finite(made):
                raise _refused(name, TYPES[dtype], fits=not _is_finite(part))
            yield made
        del tensor
        give_back()


def give_back() -> None:
    """Give the system what was freed: glibc keeps blocks of up to 32 MB, and a merge would grow as the model does."""
    with contextlib.suppress(OSError, AttributeError):  # another C library keeps none
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _refused(name: str, dtype: str, *, fits: bool) -> Refused:
    if fits:
        return Refused(f"`{name}` has numbers that are infinite or none: nothing is written", fix="train it again")
    return Refused(f"`{name}` has numbers that are too large for {dtype}: nothing is written", fix="take another dtype")


def _parts(tensor: Any) -> Iterator[Any]:
    flat = tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), AT_ONCE):
        yield flat[start : start + AT_ONCE]


def _is_finite(tensor: Any) -> bool:
    import torch

    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _write(path: Path, entries: list[tuple[str, str, list[int]]], parts: Iterator[Any]) -> int:
    """One file of safetensors, as the library lays it out; gives the bytes of its tensors."""
    header, end = {}, 0
    for name, dtype, shape in entries:
        size = _itemsize(dtype)
        for axis in shape:
            size *= axis
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            _put(file, part)
        if file.tell() != 8 + len(text) + end:
            raise RuntimeError(f"{path.name}: {file.tell()} bytes were written, {8 + len(text) + end} announced")
    path.chmod(0o644)
    return end


def _put(file: IO[bytes], part: Any) -> None:
    import torch

    file.write(memoryview(part.contiguous().view(torch.uint8).numpy()))
