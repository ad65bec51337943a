"""Verify a Tunewright package, with Python's standard library alone (3.9 or later).

    python verify.py                        the package that this file lies in
    python verify.py FOLDER_OR_ZIP          another one
    python verify.py --base MODEL_FOLDER    and that this is the base which the package belongs on

Ends with 0 when everything is as it was handed over, 1 when it is refused, 2 when the arguments make no sense.
A copy lies in every package. Whoever does not trust that copy runs his own, for one cannot vouch for itself:
`tunewright verify`, or a verify.py from elsewhere. It is one file so that it can be read in one sitting and copied.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

SCHEMA = "tunewright/package/1"
MANIFEST, SEAL, SIGNATURE, SELF, CARD = "manifest.json", "MANIFEST.sha256", "model.sig", "verify.py", "MODEL_CARD.md"
CHUNK = 1 << 16  # bytes read at once
JSON_LIMIT = 64 << 20  # bytes of a manifest or a config
HEADER_LIMIT = 100_000_000  # bytes of a safetensors header, the format's own bound


# ---------------------------------------------------------------- where the files lie


class FolderSource:
    """The files of a folder; `problems` holds what has no place in a package."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sizes: dict[str, int] = {}
        self.problems: list[str] = []
        folders = set()
        for path in sorted(root.rglob("*")):
            name, status = path.relative_to(root).as_posix(), path.lstat()
            if stat.S_ISREG(status.st_mode):
                self.sizes[name] = status.st_size
            elif stat.S_ISDIR(status.st_mode):
                folders.add(name)
            else:
                self.problems.append(f"{shown(name)} is a link or a device, not a file")
        used = {parent.as_posix() for name in self.sizes for parent in Path(name).parents}
        self.problems += [f"{shown(name)} is a folder without files" for name in sorted(folders - used)]

    def open(self, name: str) -> IO[bytes]:
        return (self.root / name).open("rb")

    def finish(self, title: str) -> list[str]:
        """Nothing is left to check once every file is."""
        return []

    def close(self) -> None:
        pass


class ZipSource:
    """The files of a zip, read where they stand. Nothing is unpacked, and stored entries cannot grow."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.file = path.open("rb")
        self.zip = zipfile.ZipFile(self.file)
        entries = self.zip.infolist()
        self.prefix = entries[0].filename.partition("/")[0] if entries else ""
        self.sizes = {entry.filename[len(self.prefix) + 1 :]: entry.file_size for entry in entries}
        self.problems = [] if len(self.sizes) == len(entries) else ["the zip holds one name twice"]
        for entry in entries:
            if entry.filename.partition("/")[0] != self.prefix or entry.is_dir():
                self.problems.append(f"{shown(entry.filename)} is no file of the folder {shown(self.prefix)}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"{shown(entry.filename)} is compressed; packages are stored")
        if sum(self.sizes.values()) > self.size:
            raise ValueError("its entries overlap")  # a small file that takes hours to read

    def open(self, name: str) -> IO[bytes]:
        return self.zip.open(f"{self.prefix}/{name}")

    def finish(self, title: str) -> list[str]:
        """The same files zipped again give the same bytes, so that not one bit of the zip is free to change."""
        if self.prefix != title:
            return [f"its folder is called {shown(self.prefix)}, not {shown(title)}"]
        twin = _Twin(self.file, self.size)
        write_zip(self, twin, self.prefix)
        return [] if twin.same() else ["the zip is not what its files give when they are zipped again"]

    def close(self) -> None:
        self.zip.close()
        self.file.close()


class _Twin(io.RawIOBase):
    """A file to write to that keeps nothing large: it compares with another file as it goes."""

    def __init__(self, other: IO[bytes], size: int) -> None:
        self.other, self.size, self.at, self.equal = other, size, 0, True
        self.small: dict[int, bytes] = {}  # headers are written twice: only the last counts

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset if whence == 0 else self.at + offset
        return self.at

    def write(self, data: Any) -> int:
        if len(data) < 4096:
            self.small[self.at] = bytes(data)
        else:
            self._compare(self.at, data)
        self.at += len(data)
        return len(data)

    def same(self) -> bool:
        for at, data in self.small.items():
            self._compare(at, data)
        return self.equal and self.at == self.size

    def _compare(self, at: int, data: Any) -> None:
        self.other.seek(at)
        self.equal = self.equal and self.other.read(len(data)) == data


def write_zip(source: Any, target: Any, folder: str) -> None:
    """The one zip that the files of a source make: sorted, stored, dated 1980, mode 0644."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(source.sizes):
            entry = zipfile.ZipInfo(f"{folder}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            entry.file_size = source.sizes[name]
            with source.open(name) as file, archive.open(entry, "w") as out:
                for block in blocks(file):
                    out.write(block)


def blocks(file: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """A file's next `size` bytes (or all) in blocks. Raises ValueError where it ends early."""
    while size is None or size > 0:
        block = file.read(CHUNK if size is None else min(CHUNK, size))
        if not block:
            if size is None:
                return
            raise ValueError("the file ends early")
        size = None if size is None else size - len(block)
        yield block


def shown(name: str) -> str:
    """A name from outside, safe to print."""
    return ascii(name)


# ---------------------------------------------------------------- names and forms

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=-]*){0,4}")
_TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_RUNS = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".so", ".pyc")
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"\x89HDF", b"\x7fELF")


def odd_name(name: str) -> bool:
    """Whether a name could mean something else on another system, or lead out of the folder."""
    parts = name.split("/")
    return (
        not _NAME.fullmatch(name)
        or len(name) > 200
        or any(part.endswith(".") or _DEVICE.fullmatch(part) is not None for part in parts)
    )


def odd_title(name: str, version: str) -> bool:
    """Whether name and version could not be a folder's name `<name>-<version>`."""
    return not (_TITLE.fullmatch(name) and _TITLE.fullmatch(version)) or odd_name(f"{name}-{version}")


def unsafe(name: str, head: bytes) -> str:
    """Why a file may run code when it is loaded, by its name or its first bytes; empty if it may not."""
    if name.lower().endswith(_RUNS):
        return "its kind of file can run code when it is loaded; weights are safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "it is a pickle, which can run code when it is loaded"
    if head.startswith(_MAGIC):
        return "it is an archive, a program or an array file, which has no place in a package"
    return ""


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """The one way to write a manifest: UTF-8, keys sorted, two spaces deep."""
    return (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def seal_bytes(manifest: bytes) -> bytes:
    """MANIFEST.sha256, in the form that `sha256sum --check` reads."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_file(name: str, value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"sha256", "size"}
        and isinstance(value["sha256"], str)
        and _DIGEST.fullmatch(value["sha256"]) is not None
        and type(value["size"]) is int
        and value["size"] >= 0
        and not odd_name(name)
        and name not in (MANIFEST, SEAL, SIGNATURE)
    )


def is_base(value: Any) -> bool:
    """Whether a manifest's `base` names a model and has its identity."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("identity"), str)
        and _DIGEST.fullmatch(value["identity"]) is not None
        and isinstance(value.get("special", {}), dict)
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "schema": lambda value: value == SCHEMA,
    "name": lambda value: isinstance(value, str),
    "version": lambda value: isinstance(value, str),
    "license": lambda value: isinstance(value, str),
    "base": is_base,
    "quantization": lambda value: value is None or isinstance(value, dict),
    "adapter": lambda value: value is None or isinstance(value, dict),
    "scores": lambda value: isinstance(value, dict),
    "gates": lambda value: isinstance(value, list),
    "libraries": _is_texts,
    "licences": _is_texts,
    "files": lambda value: isinstance(value, dict) and all(_is_file(*item) for item in value.items()),
}


_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "parent": lambda value: isinstance(value, dict) and isinstance(value.get("digest"), str),
    "forms": lambda value: isinstance(value, dict) and all(isinstance(form, dict) for form in value.values()),
    "trainings": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
}


def manifest_problems(manifest: Any) -> list[str]:
    """What is wrong with the form of a manifest."""
    if not isinstance(manifest, dict):
        return [f"{MANIFEST} is no JSON object"]
    found = [f"{MANIFEST}: `{name}` is missing" for name in sorted(_FIELDS.keys() - manifest.keys())]
    known = {**_FIELDS, **_OPTIONAL}
    found += [f"{MANIFEST}: {shown(name)} is unknown" for name in sorted(manifest.keys() - known.keys())]
    found += [
        f"{MANIFEST}: `{n}` is malformed" for n, right in known.items() if n in manifest and not right(manifest[n])
    ]
    if not found and odd_title(manifest["name"], manifest["version"]):
        found.append(f"{MANIFEST}: name or version is odd")
    return found


# ---------------------------------------------------------------- tensors


class Tensor(NamedTuple):
    """One entry of a safetensors header; `start` and `end` are bytes after the header."""

    name: str
    dtype: str
    shape: list[int]
    start: int
    end: int


_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
_BITS.update({"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32})
_BITS.update({"F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64})
# Bytes of a number, and the bits that are all set where it is infinite or not a number.
_EXPONENTS = {"F64": (8, 0x7FF << 52), "F32": (4, 0xFF << 23), "C64": (4, 0xFF << 23), "F16": (2, 0x1F << 10)}
_EXPONENTS.update({"BF16": (2, 0xFF << 7), "F8_E5M2": (1, 0x1F << 2), "F8_E4M3": (1, 0x7F)})


def read_header(file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file of `size` bytes with its length, leaving the file at the data.

    Raises ValueError where it is out of bounds, or no JSON of its form.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = json.loads(b"".join(blocks(file, length)).decode(), object_pairs_hook=_unique)
    if not isinstance(header, dict) or not _is_texts(header.get("__metadata__", {})):
        raise ValueError("its header is no JSON object, or its metadata is not text")
    return header, length


def read_tensors(file: IO[bytes], size: int) -> list[Tensor]:
    """What the header of a safetensors file of `size` bytes tells, in the order of the data, leaving the file there.

    Raises ValueError as `read_header`, and where it does not cover the data exactly.
    """
    header, length = read_header(file, size)
    header.pop("__metadata__", None)
    tensors = sorted((_tensor(*item) for item in header.items()), key=lambda tensor: (tensor.start, tensor.end))
    if not tensors:
        raise ValueError("it holds no tensor")
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            raise ValueError(f"tensor {shown(tensor.name)} does not begin where the one before it ends")
        end = tensor.end
    if end != size - 8 - length:
        raise ValueError(f"its tensors take {end} bytes where it holds {size - 8 - length}")
    return tensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has a key twice")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {shown(name)} is malformed")
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if len(numbers) > 34 or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers) or len(offsets) != 2:
        raise ValueError(f"tensor {shown(name)} has a malformed shape or place")
    bits = _BITS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if bits is None:
        raise ValueError(f"tensor {shown(name)} has an unknown dtype")
    for axis in shape:
        bits *= axis
    if bits != 8 * (offsets[1] - offsets[0]):
        raise ValueError(
            f"tensor {shown(name)} takes {offsets[1] - offsets[0]} bytes where its shape needs {bits / 8:g}"
        )
    return Tensor(name, entry["dtype"], shape, offsets[0], offsets[1])


def tensor_problems(file: IO[bytes], size: int) -> list[str]:
    """What is wrong with a safetensors file: its form, or a number that is infinite or none at all."""
    try:
        tensors = read_tensors(file, size)
    except (ValueError, RecursionError) as error:
        return [str(error) or "its header cannot be read"]
    found = []
    for tensor in tensors:
        # All blocks are read whatever the first ones say: the next tensor begins where this one ends.
        good = [finite(block, tensor.dtype) for block in blocks(file, tensor.end - tensor.start)]
        if not all(good):
            found.append(f"tensor {shown(tensor.name)} holds a value that is not finite")
    return found


def finite(block: bytes, dtype: str) -> bool:
    """Whether all numbers of at most `CHUNK` bytes are finite; dtypes without infinities always are.

    All numbers are tried at once, as one integer: adding the lowest bit of the exponent carries into the sign's place
    exactly where the whole exponent is set, and never further.
    """
    if dtype not in _EXPONENTS:
        return True
    width, exponent = _EXPONENTS[dtype]
    size = 1 << max(3, (len(block) - 1).bit_length())
    exponents, ones, signs = (_repeated(width, n, size) for n in (exponent, exponent & -exponent, 1 << 8 * width - 1))
    return ((int.from_bytes(block, "little") & exponents) + ones) & signs == 0


@lru_cache(maxsize=None)  # noqa: UP033  # a few hundred values, together some megabytes
def _repeated(width: int, number: int, size: int) -> int:
    return int.from_bytes(number.to_bytes(width, "little") * (size // width), "little")


# ---------------------------------------------------------------- identity of a base

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
PARTS = ("tensors", "tokenizer", "template")


def model_identity(folder: Path) -> dict[str, Any]:
    """Which model a folder holds, however its tensors are spread over files. Raises ValueError where it holds none.

    With `canonical` = JSON in UTF-8 with sorted keys and without spaces, and `sha256` in hexadecimal:

    - `tensors`: sha256 of canonical {name: digest} over every tensor of every *.safetensors in the folder; a digest is
      sha256 of canonical {"dtype", "name", "shape"} followed by the tensor's bytes;
    - `tokenizer`: sha256 of canonical {file: sha256 of its bytes} over those of `TOKENIZER_FILES` that are there;
    - `template`: sha256 of chat_template.jinja, else of `chat_template` in tokenizer_config.json (canonical JSON where
      it is not one text), else of nothing;
    - `identity`: sha256 of canonical {"template", "tensors", "tokenizer"};
    - `special`: which tokens begin, end and fill a text, as the files beside these say: no digest, and not in
      `identity`. Saving a model anew writes defaults there that were unsaid, and leaves out others: `other_base`
      compares what both say.
    """
    found = {
        "tensors": _tensors_digest(folder),
        "tokenizer": _sha(_canonical({n: _sha_file(folder / n) for n in TOKENIZER_FILES if (folder / n).is_file()})),
        "template": _sha(_template(folder)),
    }
    return {**found, "identity": _sha(_canonical(found)), "special": _special(folder)}


def other_base(named: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """In what a base is another one than a manifest names, both as of `model_identity`; empty where it is that one.

    Where one of both does not tell a part, as packages of earlier versions tell no `special`, it is not compared.
    """
    differs = [part for part in PARTS if named.get(part, found.get(part)) != found.get(part, named.get(part))]
    if named["identity"] != found["identity"]:
        return differs or ["identity"]
    theirs, ours = named.get("special") or {}, found.get("special") or {}
    return differs + [name for name in sorted(theirs.keys() & ours.keys()) if theirs[name] != ours[name]]


def _tensors_digest(folder: Path) -> str:
    places: dict[str, tuple[Path, int, Tensor]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            tensors = read_tensors(file, path.stat().st_size)
            for tensor in tensors:
                if tensor.name in places:
                    raise ValueError(f"{folder} holds tensor {shown(tensor.name)} twice")
                places[tensor.name] = (path, file.tell(), tensor)
    if not places:
        raise ValueError(f"{folder} holds no safetensors")
    # one core digests more slowly than most disks read, and hashlib lets other threads work meanwhile
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = pool.map(lambda place: _tensor_digest(*place), places.values())
        return _sha(_canonical(dict(zip(places, digests))))  # noqa: B905  # Python 3.9 has no `strict`


def _tensor_digest(path: Path, start: int, tensor: Tensor) -> str:
    digest = hashlib.sha256(_canonical({"dtype": tensor.dtype, "name": tensor.name, "shape": tensor.shape}))
    with path.open("rb") as file:
        file.seek(start + tensor.start)
        left = tensor.end - tensor.start
        while left:
            block = file.read(min(left, 1 << 20))
            if not block:
                raise ValueError("the file ends early")
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _template(folder: Path) -> bytes:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_bytes()
    if not (folder / "tokenizer_config.json").is_file():
        return b""
    template = json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
    if template is None:
        return b""
    return template.encode() if isinstance(template, str) else _canonical(template)


def _special(folder: Path) -> dict[str, Any]:
    """Tokens by their role, whether BOS and EOS are added where that is said, the ids at which an answer ends, and the
    tokens that were added to a vocabulary whose own file does not hold them."""
    config, tokens = (_object(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    found: dict[str, Any] = {}
    for role in ("bos_token", "eos_token", "pad_token"):
        value = tokens.get(role) if config.get(role) is None else config[role]
        found[role] = value.get("content") if isinstance(value, dict) else value
    found.update({name: config.get(name) for name in ("add_bos_token", "add_eos_token")})
    settings = next((folder / n for n in ("generation_config.json", "config.json") if (folder / n).is_file()), None)
    ends = None if settings is None else _object(settings).get("eos_token_id")
    found["ends"] = sorted(ends, key=str) if isinstance(ends, list) else None if ends is None else [ends]
    if not (folder / "tokenizer.json").is_file():
        listed = (config.get("added_tokens_decoder") or {}).items()
        added = {token["content"]: int(place) for place, token in listed}
        found["added_tokens"] = {**_object(folder / "added_tokens.json"), **added} or None
    return {name: value for name, value in found.items() if value is not None}


def _object(path: Path) -> dict[str, Any]:
    """A file of JSON that is one object; nothing where there is no file."""
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{shown(path.name)} is no object of JSON")
    return found


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha_file(path: Path) -> str:
    with path.open("rb") as file:
        return _sha_stream(file)


def _sha_stream(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks(file):
        digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------- the check


class Examined(NamedTuple):
    """What was found. `title` and `signature` are for people, `files` counts what the manifest lists."""

    problems: list[str]
    title: str = ""
    files: int = 0
    signature: str = ""


def check(path: Path, base: Path | None = None) -> list[str]:
    """Every problem of the package in a folder or zip; none = good. Damage is a problem, never an exception.

    `base`: a model folder that must be the base which the package belongs on.
    """
    return examine(path, base).problems


def examine(path: Path, base: Path | None = None) -> Examined:
    """`check` with what to tell of a good package."""
    try:
        source = FolderSource(path) if path.is_dir() else ZipSource(path)
        try:
            return _examine(source, base)
        finally:
            source.close()
    except Exception as error:  # damage takes any shape, and each is a refusal
        return Examined([f"it cannot be read: {type(error).__name__}: {shown(str(error))}"])


def _examine(source: Any, base: Path | None) -> Examined:
    problems = list(source.problems)
    manifest = _read_manifest(source, problems)
    if manifest is None:
        return Examined(problems)
    title, files = f"{manifest['name']}-{manifest['version']}", manifest["files"]
    problems += _listing_problems(source.sizes, files)
    for name in sorted(source.sizes.keys() & files.keys()):
        problems += [f"{shown(name)}: {why}" for why in _file_problems(source, name, files[name])]
    problems += _content_problems(source, files) if not problems else []
    problems += _base_problems(manifest["base"], base) if base is not None else []
    problems += source.finish(title) if not problems else []
    return Examined(problems, title, len(files), _signature(source))


def _read_small(source: Any, name: str) -> bytes:
    if source.sizes[name] > JSON_LIMIT:
        raise ValueError(f"{shown(name)} has {source.sizes[name]} bytes")
    with source.open(name) as file:
        return b"".join(blocks(file))


def _read_manifest(source: Any, problems: list[str]) -> dict[str, Any] | None:
    """The manifest if it can be believed; what is wrong with it is added to `problems`."""
    missing = [name for name in (MANIFEST, SEAL) if name not in source.sizes]
    if missing:
        problems += [f"{name} is missing" for name in missing]
        return None
    raw = _read_small(source, MANIFEST)
    if _read_small(source, SEAL) != seal_bytes(raw):
        problems.append(f"{MANIFEST} is not the one that {SEAL} names")
        return None
    manifest = json.loads(raw.decode())
    found = manifest_problems(manifest)
    if not found and manifest_bytes(manifest) != raw:
        found.append(f"{MANIFEST} is not in its one form")  # two readers could read two things in it
    problems += found
    return None if found else manifest


def _listing_problems(there: dict[str, int], listed: dict[str, Any]) -> list[str]:
    extra = sorted(there.keys() - listed.keys() - {MANIFEST, SEAL, SIGNATURE})
    found = [f"{shown(name)} is missing" for name in sorted(listed.keys() - there.keys())]
    found += [f"{shown(name)} is not listed in {MANIFEST}" for name in extra]
    if len({name.casefold() for name in listed}) != len(listed):
        found.append(f"{MANIFEST} lists two names that some systems take for one")
    return found + [f"{MANIFEST} does not list {name}" for name in (SELF, CARD) if name not in listed]


def _file_problems(source: Any, name: str, listed: dict[str, Any]) -> list[str]:
    if source.sizes[name] != listed["size"]:
        return [f"it has {source.sizes[name]} bytes, not {listed['size']}"]
    with source.open(name) as file:
        if _sha_stream(file) != listed["sha256"]:
            return ["it was changed: its digest is another"]
    with source.open(name) as file:
        why = unsafe(name, file.read(8))
    if why or not name.endswith(".safetensors"):
        return [why] if why else []
    with source.open(name) as file:
        return tensor_problems(file, listed["size"])


def _content_problems(source: Any, files: dict[str, Any]) -> list[str]:
    """An adapter with its config, or a whole model with its own."""
    if "adapter_config.json" not in files:
        whole = "config.json" in files and any(name.endswith(".safetensors") and "/" not in name for name in files)
        return [] if whole else ["it holds neither an adapter nor a model"]
    config = json.loads(_read_small(source, "adapter_config.json").decode())
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        return ["adapter_config.json has no `peft_type`"]
    return [] if "adapter_model.safetensors" in files else ["adapter_model.safetensors is missing"]


def _base_problems(expected: dict[str, Any], folder: Path) -> list[str]:
    try:
        found = model_identity(folder)
    except Exception as error:  # as in `examine`
        return [f"the base in {shown(str(folder))} cannot be read: {shown(str(error))}"]
    differs = other_base(expected, found)
    if not differs:
        return []
    other = f" (other {', '.join(differs)})"
    return [f"{shown(str(folder))} is not the base {shown(expected['name'])} that this belongs on{other}"]


def _signature(source: Any) -> str:
    return "unsigned" if SIGNATURE not in source.sizes else "signed; the signature is not checked here"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog=SELF, description="Verify a Tunewright package.")
    parser.add_argument("package", nargs="?", type=Path, default=Path(__file__).resolve().parent, help="folder or zip")
    parser.add_argument("--base", type=Path, help="folder of the base model that the package belongs on")
    asked = parser.parse_args(arguments)
    for path in (asked.package, asked.base):
        if path is not None and not path.exists():
            parser.error(f"there is no {shown(str(path))}")
    found = examine(asked.package, asked.base)
    for problem in found.problems:
        print(f"refused: {problem}")
    if found.problems:
        return 1
    base = "the base is the right one" if asked.base else "base not compared (--base)"
    print(f"good: {found.title}, {found.files} files, {found.signature}, {base}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
