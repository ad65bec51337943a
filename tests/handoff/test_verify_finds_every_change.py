"""Any bit of a package flipped, anything missing, added or renamed: refused, and never a crash."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff.packages import contents
from tunewright.handoff import verify
from tunewright.handoff.package import build, zip_folder
from tunewright.handoff.verify import check


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    made = build(contents(folder / "in"), folder)
    zip_folder(made)
    return made


@pytest.fixture
def copy(package: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package, tmp_path / "copy"))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refused(path: Path) -> bool:
    return bool(check(path))


def flipped(data: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def unnoticed(path: Path, checked: Path, flips: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The flips of a file after which `checked` still passes; the file is put back."""
    data, kept = path.read_bytes(), []
    for place, bit in flips:
        path.write_bytes(flipped(data, place, bit))
        if not refused(checked):
            kept.append((place, bit))
    path.write_bytes(data)
    return kept


def some_flips(size: int, count: int, seed: int = 0) -> list[tuple[int, int]]:
    draw = random.Random(seed)
    places = {0, size // 2, size - 1, *draw.choices(range(size), k=count)}
    return [(place, draw.randrange(8)) for place in sorted(places)]


def test_a_package_and_its_zip_are_good(package):
    assert check(package) == []
    assert check(package.with_name(f"{package.name}.zip")) == []


def test_every_small_file_is_refused_with_any_bit_flipped(copy):
    for path in files_of(copy):
        size = path.stat().st_size
        flips = [(place, place % 8) for place in range(size)] if size < 100 else some_flips(size, 40)
        assert unnoticed(path, copy, flips) == [], path.name
    assert not refused(copy)


def test_the_zip_is_refused_with_any_bit_flipped(package, tmp_path):
    path = Path(shutil.copy(package.with_name(f"{package.name}.zip"), tmp_path / "copy.zip"))
    size = path.stat().st_size
    head, tail = (
        [(p, b) for p in range(60) for b in range(8)],
        [(p, b) for p in range(size - 110, size) for b in range(8)],
    )
    assert unnoticed(path, path, head + tail + some_flips(size, 200)) == []
    assert not refused(path)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(data=st.data())
def test_any_flip_anywhere_is_refused(package, data):
    path = data.draw(st.sampled_from([*files_of(package), package.with_name(f"{package.name}.zip")]))
    place = data.draw(st.integers(0, path.stat().st_size - 1))
    flip = (place, data.draw(st.integers(0, 7)))
    assert unnoticed(path, path if path.suffix == ".zip" else package, [flip]) == []


@settings(derandomize=True, deadline=None, max_examples=120)
@given(data=st.data())
def test_any_other_bytes_are_refused(package, data):
    path = data.draw(st.sampled_from([*files_of(package), package.with_name(f"{package.name}.zip")]))
    before = path.read_bytes()
    after = data.draw(st.one_of(st.binary(max_size=300), st.integers(0, len(before) - 1).map(lambda n: before[:n])))
    path.write_bytes(after)
    try:
        assert after == before or refused(path if path.suffix == ".zip" else package)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("kept", [0, 1, 10, 0.5, -1])
def test_a_zip_cut_short_or_longer_is_refused(package, tmp_path, kept):
    whole = package.with_name(f"{package.name}.zip").read_bytes()
    path = tmp_path / "cut.zip"
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    assert refused(path)
    for longer in (whole + b"\0", b"\0" + whole, whole + whole):
        path.write_bytes(longer)
        assert refused(path)


def test_a_missing_file_is_refused(copy):
    for path in files_of(copy):
        data = path.read_bytes()
        path.unlink()
        assert any(f"{path.name}" in problem for problem in check(copy)), path.name
        path.write_bytes(data)


def test_an_empty_or_absent_folder_is_refused(tmp_path):
    assert check(tmp_path) == ["manifest.json is missing", "MANIFEST.sha256 is missing"]
    assert refused(tmp_path / "nothing")


def test_a_renamed_file_is_refused(copy):
    (copy / "prompts.json").rename(copy / "prompts2.json")
    assert check(copy) == ["'prompts.json' is missing", "'prompts2.json' is not listed in manifest.json"]


@pytest.mark.parametrize("name", ["extra.txt", "evals/extra.jsonl", ".hidden", "pytorch_model.bin"])
def test_a_file_that_is_not_listed_is_refused(copy, name):
    (copy / name).write_text("x")
    assert check(copy) == [f"'{name}' is not listed in manifest.json"]


def test_a_link_is_refused_even_to_the_same_bytes(copy, tmp_path):
    target = Path(shutil.copy(copy / "tokenizer.json", tmp_path / "elsewhere"))
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.json").symlink_to(target)
    assert "'tokenizer.json' is a link or a device, not a file" in check(copy)


def test_a_linked_folder_a_pipe_and_an_empty_folder_are_refused(copy, tmp_path):
    (copy / "more").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(copy / "pipe")
    (copy / "empty").mkdir()
    assert check(copy) == [
        "'more' is a link or a device, not a file",
        "'pipe' is a link or a device, not a file",
        "'empty' is a folder without files",
    ]


def test_the_signature_is_the_one_file_that_may_come_later(copy):
    assert verify.examine(copy).signature == "unsigned"
    (copy / verify.SIGNATURE).write_text("{}")
    found = verify.examine(copy)
    assert found.problems == []
    assert found.signature.startswith("signed; the signature is not checked")
