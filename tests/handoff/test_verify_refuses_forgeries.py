"""Packages whose digests are right and whose content is not: made by someone who can list and seal them anew."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from handoff.packages import ADAPTER, contents, floats, reseal, safetensors, with_header
from tunewright.handoff import verify
from tunewright.handoff.package import build, zip_folder
from tunewright.handoff.verify import check, finite


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    return build(contents(folder / "in"), folder)


@pytest.fixture
def package(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / original.name))


def problems_with(package: Path, name: str, data: bytes) -> list[str]:
    (package / name).write_bytes(data)
    reseal(package)
    return check(package)


def header(**tensors: object) -> bytes:
    return json.dumps(tensors).encode()


def entry(dtype: object = "F32", shape: object = (1,), places: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": places}


FOUR = b"\0\0\0\0"
BAD_TENSORS = {
    "empty": (b"", "a header of 0 bytes"),
    "header too long for the file": (struct.pack("<Q", 1000) + b"{}", "a header of 1000 bytes"),
    "header bomb": (struct.pack("<Q", 2**63) + b"{}", "a header of 9223372036854775808"),
    "no JSON": (with_header(b"{nope"), "Expecting property name"),
    "no UTF-8": (with_header(b'{"\xff": 1}'), "codec can't decode"),
    "nesting bomb": (with_header(b"[" * 200_000), ""),
    "number bomb": (with_header(b'{"w": ' + b"9" * 10_000 + b"}"), ""),
    "a list": (with_header(b"[]"), "no JSON object"),
    "no tensor": (with_header(b"{}"), "holds no tensor"),
    "metadata of numbers": (with_header(header(__metadata__={"a": 1}, w=entry()), FOUR), "metadata is not text"),
    "a name twice": (with_header(b'{"w": {}, "w": {}}'), "a key twice"),
    "unknown dtype": (with_header(header(w=entry("F33")), FOUR), "'w' has an unknown dtype"),
    "dtype of another type": (with_header(header(w=entry([])), FOUR), "'w' has an unknown dtype"),
    "another size": (with_header(header(w=entry(shape=[2])), FOUR), "'w' takes 4 bytes where its shape needs 8"),
    "size bomb": (with_header(header(w=entry(shape=[2**62, 2**62])), FOUR), "'w' takes 4 bytes"),
    "negative shape": (with_header(header(w=entry(shape=[-1])), FOUR), "'w' has a malformed shape"),
    "shape of truth": (with_header(header(w=entry(shape=[True])), FOUR), "'w' has a malformed shape"),
    "shape of text": (with_header(header(w=entry(shape="1")), FOUR), "'w' has a malformed shape"),
    "too many axes": (with_header(header(w=entry(shape=[1] * 40)), FOUR), "'w' has a malformed shape"),
    "one place": (with_header(header(w=entry(places=[0])), FOUR), "'w' has a malformed shape"),
    "a key too many": (with_header(header(w={**entry(), "x": 1}), FOUR), "'w' is malformed"),
    "a gap": (with_header(header(w=entry(places=[4, 8])), FOUR * 2), "'w' does not begin"),
    "an overlap": (with_header(header(v=entry(), w=entry()), FOUR), "'w' does not begin"),
    "data left over": (with_header(header(w=entry()), FOUR * 2), "take 4 bytes where it holds 8"),
    "data missing": (with_header(header(w=entry()), b"\0"), "take 4 bytes where it holds 1"),
    "not a number": (safetensors({**ADAPTER, "w": floats(0, float("nan"))}), "'w' holds a value that is not finite"),
    "infinite": (safetensors({"w": floats(float("-inf")), **ADAPTER}), "'w' holds a value that is not finite"),
    "half infinite": (safetensors({"w": ("F16", [1], b"\x00\x7c")}), "'w' holds a value that is not finite"),
    "brain nan": (safetensors({"w": ("BF16", [1], b"\xc0\xff")}), "'w' holds a value that is not finite"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_damaged_weights_are_refused_by_name(package, case):
    data, why = BAD_TENSORS[case]
    found = problems_with(package, "adapter_model.safetensors", data)
    assert len(found) == 1
    assert found[0].startswith("'adapter_model.safetensors': ")
    assert why in found[0]


@pytest.mark.parametrize(("dtype", "width"), [("F32", "<f"), ("F16", "<e"), ("F64", "<d")])
def test_finite_agrees_with_floats_on_every_exponent(dtype, width):
    size, exponent = struct.calcsize(width), {"F32": 8, "F16": 5, "F64": 11}[dtype]
    mantissa = size * 8 - 1 - exponent
    for sign, power, rest in itertools.product((0, 1), range(2**exponent), (0, 1, 2**mantissa - 1)):
        data = (((sign << exponent | power) << mantissa) | rest).to_bytes(size, "little")
        number = struct.unpack(width, data)[0]
        assert finite(data, dtype) == (number - number == 0)


def test_finite_knows_every_16_bit_number():
    for bits in range(2**16):
        data = bits.to_bytes(2, "little")
        assert finite(data, "BF16") == (bits & 0x7F80 != 0x7F80)
        assert finite(data, "F16") == (bits & 0x7C00 != 0x7C00)


def test_finite_looks_at_every_place_of_a_block():
    clean = b"\xff\x7e" * (verify.CHUNK // 2)  # the largest exponents that are finite, side by side
    assert finite(clean, "F16") is False  # 0x7eff is a number in BF16 and none in F16
    assert finite(clean, "BF16") is True
    for place in (0, 1, verify.CHUNK // 4, verify.CHUNK // 2 - 1):
        dirty = clean[: 2 * place] + b"\x80\x7f" + clean[2 * place + 2 :]
        assert finite(dirty, "BF16") is False


def test_a_value_that_is_not_finite_is_found_in_a_late_block_and_in_the_next_tensor(package):
    wide = ("F32", [400_000], FOUR * 400_000)
    late = ("F32", [400_000], FOUR * 399_999 + b"\0\0\xc0\x7f")
    found = problems_with(package, "adapter_model.safetensors", safetensors({"a": wide, "b": late, "c": wide}))
    assert found == ["'adapter_model.safetensors': tensor 'b' holds a value that is not finite"]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("adapter_config.json", b"[]", "no `peft_type`"),
        ("adapter_config.json", b"{}", "no `peft_type`"),
        ("adapter_config.json", b"{", "cannot be read"),
        ("adapter_config.json", b"\xff", "cannot be read"),
        ("adapter_config.json", b"[" * 200_000, "cannot be read"),
        ("extra.bin", b"harmless", "can run code"),
        ("tokenizer.json", b"\x80\x04K\x01.", "it is a pickle"),
        ("tokenizer.json", b"PK\x03\x04", "an archive"),
    ],
)
def test_files_that_do_harm_or_say_nothing_are_refused(package, name, data, why):
    found = problems_with(package, name, data)
    assert len(found) == 1
    assert why in found[0]


def test_an_adapter_without_weights_and_a_package_of_nothing_are_refused(package):
    (package / "adapter_model.safetensors").unlink()
    reseal(package)
    assert check(package) == ["adapter_model.safetensors is missing"]
    (package / "adapter_config.json").unlink()
    reseal(package)
    assert check(package) == ["it holds neither an adapter nor a model"]


@pytest.mark.parametrize("name", [verify.SELF, verify.CARD])
def test_verify_and_the_card_have_to_be_listed(package, name):
    (package / name).unlink()
    reseal(package)
    assert check(package) == [f"manifest.json does not list {name}"]


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "tunewright/package/2"},
        {"name": 1},
        {"name": "../up"},
        {"version": ""},
        {"base": {"name": "x"}},
        {"base": {"name": "x", "identity": "g" * 64}},
        {"base": {"name": "x", "identity": "a" * 64, "special": ["eos_token"]}},
        {"libraries": {"peft": 1}},
        {"scores": []},
        {"adapter": "lora"},
        {"extra": 1},
        {"gates": None},
        {"files": []},
        {"files": {"../up": {"sha256": "0" * 64, "size": 0}}},
        {"files": {"a": {"sha256": "0" * 64, "size": True}}},
        {"files": {"a": {"sha256": "0" * 63, "size": 0}}},
        {"files": {"a": {"sha256": "0" * 64, "size": -1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": 0, "x": 1}}},
        {"files": {"manifest.json": {"sha256": "0" * 64, "size": 0}}},
    ],
)
def test_a_manifest_of_another_form_is_refused(package, changes):
    reseal(package, **changes)
    found = check(package)
    assert found
    assert all(problem.startswith("manifest.json") for problem in found)


@pytest.mark.parametrize("turn", [lambda t: t.replace("\n", ""), lambda t: t + " ", lambda t: t.replace("{", "{ ", 1)])
def test_a_manifest_has_one_form(package, turn):
    data = turn((package / verify.MANIFEST).read_text()).encode()
    (package / verify.MANIFEST).write_bytes(data)
    (package / verify.SEAL).write_bytes(verify.seal_bytes(data))
    assert check(package) == ["manifest.json is not in its one form"]


@pytest.mark.parametrize(
    "data", [b"", b"nope", b"[]", b"[" * 200_000, b"\xff", b'{"name": NaN}', b'"\\ud800"', b"1e999"]
)
def test_a_manifest_that_is_none_is_refused(package, data):
    (package / verify.MANIFEST).write_bytes(data)
    (package / verify.SEAL).write_bytes(verify.seal_bytes(data))
    assert check(package)


# ---------------------------------------------------------------- zips


def rezipped(package: Path, path: Path, change) -> Path:
    """The same files in a zip that `change(name, entry)` made otherwise."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in package.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(f"{package.name}/{file.relative_to(package).as_posix()}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            change(archive, entry)
            archive.writestr(entry, file.read_bytes())
    return path


def test_the_unchanged_files_zipped_alike_are_good(package, tmp_path):
    path = rezipped(package, tmp_path / "z.zip", lambda archive, entry: None)
    assert check(path) == []
    assert path.read_bytes() == zip_folder(package).read_bytes()


CHANGES = {
    "compressed": lambda archive, entry: setattr(entry, "compress_type", zipfile.ZIP_DEFLATED),
    "dated": lambda archive, entry: setattr(entry, "date_time", (2024, 1, 1, 0, 0, 0)),
    "executable": lambda archive, entry: setattr(entry, "external_attr", 0o100755 << 16),
    "links": lambda archive, entry: setattr(entry, "external_attr", 0o120644 << 16),
    "with extra fields": lambda archive, entry: setattr(entry, "extra", b"\x99\x99\x00\x00"),
    "with comments on entries": lambda archive, entry: setattr(entry, "comment", b"hello"),
    "with a comment": lambda archive, entry: setattr(archive, "comment", b"hello"),
    "in another folder": lambda archive, entry: setattr(entry, "filename", "x/" + entry.filename.partition("/")[2]),
    "without a folder": lambda archive, entry: setattr(entry, "filename", entry.filename.partition("/")[2]),
    "leading out": lambda archive, entry: setattr(entry, "filename", "../" + entry.filename.partition("/")[2]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_zip_made_otherwise_is_refused(package, tmp_path, case):
    assert check(rezipped(package, tmp_path / "z.zip", CHANGES[case]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_more_names_or_a_name_twice_is_refused(package, tmp_path):
    for name in ("tokenizer.json", "extra.txt", "evals/", "../../up"):
        path = rezipped(package, tmp_path / "z.zip", lambda archive, entry: None)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{package.name}/{name}", "x")
        assert check(path), name


def test_a_zip_whose_entries_share_their_bytes_is_refused_before_reading(tmp_path):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/big", b"\0" * 100_000)
        first = archive.infolist()[0]
        for number in range(50):
            twin = zipfile.ZipInfo(f"a/{number:03}")
            twin.file_size = twin.compress_size = first.file_size
            twin.header_offset, twin.CRC = 0, first.CRC
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    found = check(path)
    assert len(found) == 1
    assert "entries overlap" in found[0]


def test_an_empty_zip_is_refused(tmp_path):
    zipfile.ZipFile(tmp_path / "z.zip", "w").close()
    assert check(tmp_path / "z.zip") == ["manifest.json is missing", "MANIFEST.sha256 is missing"]
