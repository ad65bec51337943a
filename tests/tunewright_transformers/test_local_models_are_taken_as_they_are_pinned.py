"""A folder of this machine: pinned by content, copied, refused where it is not a model or holds pickles."""

import json
import shutil
from contextlib import suppress

import pytest

from tiny import backend
from tunewright.errors import Refused
from tunewright.handoff.verify import model_identity
from tunewright.parts import Facts
from tunewright.parts.base import BadOption
from tunewright_transformers.local import LocalSource


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder(), tmp_path / "my model")


def source(folder, **options):
    return backend(LocalSource, path=str(folder), **options)


def finding(folder):
    """What `validate` says; the same that `pin` raises."""
    (found,) = source(folder).check(Facts())
    with pytest.raises(BadOption) as error:
        source(folder).pin()
    assert error.value.finding == found
    assert found.field == "path"
    with suppress(BadOption):  # anything else would hide the spec's other problems
        source(folder).config()
    return found


def test_the_models_files_and_no_others_are_copied(folder, tmp_path):
    (folder / "notes.txt").write_text("private")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "LICENSE").write_text("the licence")
    out = tmp_path / "out"
    out.mkdir()
    found = source(folder, license="MIT")
    found.fetch(found.pin(), out)
    assert model_identity(out) == model_identity(folder)
    assert not {"notes.txt", "training_args.bin"} & {path.name for path in out.iterdir()}
    assert (out / "LICENSE").is_file()
    assert (found.name, found.license) == ("my model", "MIT")
    assert found.config()["model_type"] == "llama"


def test_the_copy_is_a_copy(folder, tmp_path):
    """Training scripts save over a folder in place: what was fetched must not change under the cache."""
    out = tmp_path / "out"
    out.mkdir()
    source(folder).fetch(source(folder).pin(), out)
    before = model_identity(out)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    assert model_identity(out) == before


def test_the_pin_follows_the_content_not_the_place_or_the_time(folder, tmp_path):
    import os

    pin = source(folder).pin()
    os.utime(folder / "config.json", (0, 0))
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert source(moved).pin() == pin
    (moved / "chat_template.jinja").write_text("other")
    assert source(moved).pin() != pin


def test_a_folder_that_changed_since_it_was_pinned_is_refused(folder, tmp_path):
    pin = source(folder).pin()
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "x": 1}))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Refused, match="changed since it was pinned"):
        source(folder).fetch(pin, out)


def test_pickles_are_refused_where_nothing_else_is_there(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    found = finding(folder)
    assert found.code == "pickle-weights"
    assert "pytorch_model.bin" in found.message
    assert "safetensors" in found.suggestion


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda folder: shutil.rmtree(folder), "file-missing", "there is no folder"),
        (lambda folder: (folder / "config.json").unlink(), "not-a-model", "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not-a-model", "not JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not-a-model", "model_type"),
        (lambda folder: (folder / "model.safetensors").unlink(), "not-a-model", "safetensors"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}})
            ),
            "not-a-model",
            "model-00002-of-00002.safetensors",
        ),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), "not-a-model", "index.json"),
    ],
)
def test_what_is_not_a_model_is_said_at_validate(folder, spoil, code, said):
    spoil(folder)
    found = finding(folder)
    assert found.code == code
    assert said in found.message
