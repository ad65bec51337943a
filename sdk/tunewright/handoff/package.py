"""The package that is handed over: a folder that plain PEFT, plain vLLM and a person can use, and its zip.

    folder = build(contents, out)       # out/<name>-<version>/
    archive = zip_folder(folder)        # out/<name>-<version>.zip

Equal contents give equal bytes. Nothing is handed over that `verify.check` would refuse.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from tunewright.digest import digest_file
from tunewright.errors import BadInput, Refused
from tunewright.handoff import verify
from tunewright.handoff.card import model_card
from tunewright.handoff.contents import PackageContents
from tunewright.store import disk

_OURS = frozenset({verify.MANIFEST, verify.SEAL, verify.SIGNATURE, verify.CARD, verify.SELF})


def build(contents: PackageContents, out: Path) -> Path:
    """Write `out/<name>-<version>/` and return it. The folder must not be there yet.

    Raises BadInput where a name cannot stand in a package, `Refused` where a file must not be handed over: a link, a
    pickle or an archive of one, weights that are damaged or not finite.
    """
    _refuse_names(contents)
    texts = {**contents.texts, verify.CARD: model_card(contents)}
    for name, path in contents.files.items():
        _refuse_file(name, path)
    folder = out / contents.title
    _refuse_overwriting(folder)
    try:
        _write(folder, contents, texts)
        _refuse_problems(folder)
    except BaseException:
        disk.remove(folder)  # half a package, or a bad one, must not be taken for one
        raise
    return folder


def zip_folder(folder: Path) -> Path:
    """Write `<folder>.zip` beside the folder and return it: stored, sorted, without a date, equal for equal files.

    Raises `Refused` where the folder or the zip does not verify.
    """
    _refuse_problems(folder)
    target = folder.with_name(f"{folder.name}.zip")
    _refuse_overwriting(target)
    try:
        with target.open("xb") as file:
            verify.write_zip(verify.FolderSource(folder), file, folder.name)
        target.chmod(0o644)
        disk.sync(target)
        _refuse_problems(target)
    except BaseException:
        disk.remove(target)
        raise
    return target


def manifest(contents: PackageContents, files: Mapping[str, Path]) -> dict[str, Any]:
    """manifest.json as a value; `files` are all files that it lists."""
    return {
        "schema": verify.SCHEMA,
        "name": contents.name,
        "version": contents.version,
        "license": contents.license or "unknown",
        "base": dict(contents.base),
        "quantization": None if contents.quantization is None else dict(contents.quantization),
        "adapter": None if contents.adapter is None else dict(contents.adapter),
        "scores": {name: {**asdict(score), "ci95": list(score.ci95)} for name, score in contents.scores.items()},
        "gates": [asdict(verdict) for verdict in contents.gates],
        **({} if not contents.trainings else {"trainings": [dict(one) for one in contents.trainings]}),
        "libraries": dict(contents.libraries),
        "licences": dict(contents.licences),
        **({} if contents.parent is None else {"parent": dict(contents.parent)}),
        **({} if not contents.forms else {"forms": {name: dict(form) for name, form in contents.forms.items()}}),
        "files": {n: {"sha256": digest_file(path), "size": path.stat().st_size} for n, path in files.items()},
    }


def _write(folder: Path, contents: PackageContents, texts: Mapping[str, str]) -> None:
    disk.make_folder(folder)
    for name, path in sorted(contents.files.items()):
        _copy(path, _place(folder, name))
    for name, text in sorted(texts.items()):
        disk.write(_place(folder, name), _encoded(name, text))
    _copy(Path(verify.__file__), folder / verify.SELF)
    _seal(folder, contents)


def _seal(folder: Path, contents: PackageContents) -> None:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    try:
        data = verify.manifest_bytes(manifest(contents, files))
    except (TypeError, ValueError) as error:
        raise BadInput(f"the manifest cannot be written: {error}") from error
    disk.write(folder / verify.MANIFEST, data)
    disk.write(folder / verify.SEAL, verify.seal_bytes(data))


def _refuse_names(contents: PackageContents) -> None:
    if verify.odd_title(contents.name, contents.version):
        raise BadInput(
            f"`{contents.name}` and `{contents.version}` cannot name a package",
            fix="use letters, digits, `.`, `_`, `+` and `-`",
        )
    if not verify.is_base(dict(contents.base)):
        raise BadInput("the package's base has no `name` and `identity`")
    names = [*contents.files, *contents.texts]
    for name in names:
        if verify.odd_name(name):
            raise BadInput(f"{verify.shown(name)} cannot be a file's name in a package", fix="use plain ASCII names")
        if name in _OURS:
            raise BadInput(f"`{name}` is written by the package itself")
    if len({name.casefold() for name in names}) != len(names):
        raise BadInput("two files of the package have names that some systems take for one")


def _refuse_file(name: str, path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        raise Refused(f"{path}, which is to be `{name}`, is a link or no file", fix="hand over the file itself")
    with path.open("rb") as file:
        why = verify.unsafe(name, file.read(8)) or verify.unsafe(path.name, b"")
    if why:
        raise Refused(f"{path} is not handed over: {why}", fix="save the weights as safetensors")


def _refuse_overwriting(path: Path) -> None:
    if path.exists():
        raise BadInput(f"{path} is there already", fix="a version is never overwritten: raise `package.version`")


def _refuse_problems(path: Path) -> None:
    problems = verify.check(path)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Refused(f"{path.name} would not verify: {problems[0]}{more}")


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    if path.parent != folder:
        disk.make_folder(path.parent)
    return path


def _encoded(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"`{name}` holds text that has no UTF-8 form: {error.reason}") from error


def _copy(source: Path, target: Path) -> None:
    """Through the one module that writes, and without holding the file in memory."""
    with source.open("rb") as file:
        if not source.stat().st_size:  # nothing to map
            disk.write(target, b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            disk.write(target, cast(bytes, view))
