"""Which weights, tokenizer and template a model has, whatever the order or the shards they lie in. Needs no torch.

The safetensors format: eight bytes of header length, little endian; a JSON header `{name: {dtype, shape,
data_offsets}}`; then the tensors' bytes. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json, digest_bytes, digest_file, digest_json
from tunewright.errors import Refused
from tunewright_transformers.layout import TEMPLATE, VOCABULARY, WEIGHTS

MAX_HEADER = 100_000_000  # bytes; the library's own bound
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "add_bos_token", "add_eos_token")


def model_identity(folder: Path) -> dict[str, str]:
    """`{tensors, tokenizer, template, identity}` of a model folder, each 64 hex digits.

    Raises `Refused` where a safetensors file is damaged or a tensor stands in two of them.
    """
    parts = {
        "tensors": digest_json(dict(sorted(_tensors(folder).items()))),
        "tokenizer": digest_json(_tokenizer(folder)),
        "template": digest_bytes(_template(folder).encode()),
    }
    return {**parts, "identity": digest_json(parts)}


def digest_tensors(named: Iterable[tuple[str, Any]]) -> str:
    """Digest of torch tensors as they are in memory, whatever their order and type.

    Values are compared as 32-bit floats, which hold every bf16 and fp16 exactly: an adapter that a library casts up
    when it loads it is still the same adapter.
    """
    digests = {}
    for name, tensor in named:
        values = tensor.detach().float().cpu().contiguous().reshape(-1).numpy()
        digests[name] = digest_tensor("F32", tuple(tensor.shape), values)
    return digest_json(dict(sorted(digests.items())))


def digest_tensor(dtype: str, shape: Sequence[int], data: Any) -> str:
    """sha256 over type, shape and bytes of one tensor; `data` is any contiguous buffer."""
    found = hashlib.sha256(canonical_json([dtype, list(shape)]))
    found.update(data)
    return found.hexdigest()


def _tensors(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(folder.glob(WEIGHTS)):
        for name, digest in _file_tensors(file):
            if name in found:
                raise Refused(f"tensor `{name}` stands in two files of {folder.name}")
            found[name] = digest
    return found


def _file_tensors(path: Path) -> Iterator[tuple[str, str]]:
    """Name and digest of each tensor of a file, read through a map: memory holds no copy."""
    with path.open("rb") as file:
        header, start = read_header(path)
        if not header:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                with view[start + begin : start + end] as data:
                    yield name, digest_tensor(entry["dtype"], entry["shape"], data)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file without its metadata, and where the tensors' bytes begin.

    Raises `Refused` unless the tensors cover exactly the bytes that are there.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise Refused(f"{path.name} is not a whole safetensors file: its header does not fit into {size:,} bytes")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            whole = _cover([entry["data_offsets"] for entry in header.values()], size - 8 - length)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(f"{path.name} has a damaged header") from error
    if not whole:
        raise Refused(f"{path.name} is cut or padded: its tensors do not cover the {size:,} bytes of the file")
    return header, 8 + length


def _cover(spans: Iterable[Sequence[int]], size: int) -> bool:
    """Whether the spans, in order, follow one another from 0 to `size` without a gap."""
    end = 0
    for begin, after in sorted(spans):
        if begin != end or after < begin:
            return False
        end = after
    return end == size


def _tokenizer(folder: Path) -> dict[str, Any]:
    """What changes token ids: the vocabulary's bytes and the special tokens, not the notes that libraries add."""
    names = VOCABULARY[:1] if (folder / VOCABULARY[0]).is_file() else VOCABULARY
    files = {name: digest_file(folder / name) for name in names if (folder / name).is_file()}
    config = _json(folder / "tokenizer_config.json")
    return {"files": files, "special": {name: config[name] for name in SPECIAL if name in config}}


def _template(folder: Path) -> str:
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text("utf-8")
    template = _json(folder / "tokenizer_config.json").get("chat_template") or ""
    return template if isinstance(template, str) else canonical_json(template).decode()


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
