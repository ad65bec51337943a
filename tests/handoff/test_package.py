"""What is written, that it is written the same twice, and what is never handed over."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from handoff.packages import ADAPTER, contents, floats, safetensors
from tunewright.errors import BadInput, Refused
from tunewright.handoff.package import build, zip_folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_contents_give_equal_bytes(tmp_path):
    first = build(contents(tmp_path / "in"), tmp_path / "a")
    made = contents(tmp_path / "other")
    for path in made.files.values():  # other times, modes and order: none of it may show
        os.utime(path, (1, 1))
        path.chmod(0o600)
    turned = replace(
        made,
        files=dict(reversed(made.files.items())),
        texts=dict(reversed(made.texts.items())),
        libraries=dict(reversed(made.libraries.items())),
    )
    old = os.umask(0o077)
    try:
        second = build(turned, tmp_path / "b")
        zips = [zip_folder(folder).read_bytes() for folder in (first, second)]
    finally:
        os.umask(old)
    assert tree(first) == tree(second)
    assert zips[0] == zips[1]
    assert {stat.S_IMODE(path.stat().st_mode) for path in second.rglob("*") if path.is_file()} == {0o644}
    assert stat.S_IMODE(second.with_name("acme-support-1.0.0.zip").stat().st_mode) == 0o644


def test_the_package_is_laid_out_as_peft_and_people_expect(tmp_path):
    folder = build(contents(tmp_path / "in"), tmp_path)
    assert folder.name == "acme-support-1.0.0"
    assert set(tree(folder)) == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "manifest.json",
        "MANIFEST.sha256",
        "MODEL_CARD.md",
        "REPORT.html",
        "spec.lock.yaml",
        "evals/heldout.jsonl",
        "prompts.json",
        "verify.py",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"].keys() == tree(folder).keys() - {"manifest.json", "MANIFEST.sha256"}
    assert manifest["base"]["identity"] == "ab" * 32
    assert manifest["scores"]["heldout.exact_match"]["ci95"] == [0.85, 0.96]


def test_the_zip_unpacks_to_the_folder(tmp_path):
    folder = build(contents(tmp_path / "in"), tmp_path)
    archive = zip_folder(folder)
    assert archive == tmp_path / "acme-support-1.0.0.zip"
    zipfile.ZipFile(archive).extractall(tmp_path / "out")
    assert tree(tmp_path / "out" / folder.name) == tree(folder)


def test_a_version_is_never_overwritten(tmp_path):
    folder = build(contents(tmp_path / "in"), tmp_path)
    with pytest.raises(BadInput, match="is there already"):
        build(contents(tmp_path / "in"), tmp_path)
    zip_folder(folder)
    with pytest.raises(BadInput, match="is there already"):
        zip_folder(folder)


@pytest.mark.parametrize(
    "name",
    ["../up.json", "/abs.json", "a/../b", "a//b", "./a", "a b", "ä.json", "nul.txt", "COM1", "a.", ".git", "", "a\nb"],
)
def test_names_that_escape_or_mean_two_things_are_refused(tmp_path, name):
    for changed in ({"texts": {name: "x"}}, {"files": {name: Path(__file__)}}):
        with pytest.raises(BadInput, match="cannot be a file's name"):
            build(contents(tmp_path / "in", **changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["manifest.json", "MANIFEST.sha256", "MODEL_CARD.md", "verify.py", "model.sig"])
def test_the_packages_own_files_cannot_be_given(tmp_path, name):
    with pytest.raises(BadInput, match="written by the package itself"):
        build(contents(tmp_path / "in", texts={name: "x"}), tmp_path / "out")


def test_names_that_some_systems_take_for_one_are_refused(tmp_path):
    with pytest.raises(BadInput, match="take for one"):
        build(contents(tmp_path / "in", texts={"Tokenizer.json": "x"}), tmp_path / "out")


@pytest.mark.parametrize(
    "changed",
    [{"name": "../up"}, {"name": "a/b"}, {"name": ""}, {"version": "1 0"}, {"version": "-1"}, {"name": ".x"}],
)
def test_a_name_or_version_that_makes_no_folder_is_refused(tmp_path, changed):
    with pytest.raises(BadInput, match="cannot name a package"):
        build(contents(tmp_path / "in", **changed), tmp_path / "out")


def zip_of_pickle() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": 1}))
    return memory.getvalue()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "adapter_model.pt", "optimizer.pth", "rng.pkl", "X.PKL", "a.npy"]
)
def test_weights_that_can_run_code_are_refused_by_name(tmp_path, name):
    (tmp_path / "harmless").write_text("harmless")
    made = contents(tmp_path / "in")
    with pytest.raises(Refused, match="run code"):
        build(replace(made, files={**made.files, name: tmp_path / "harmless"}), tmp_path / "out")
    (tmp_path / name).write_text("harmless")
    with pytest.raises(Refused, match="run code"):
        build(replace(made, files={**made.files, "innocent.json": tmp_path / name}), tmp_path / "out")


@pytest.mark.parametrize("data", [*(pickle.dumps({}, protocol=p) for p in (2, 3, 4, 5)), zip_of_pickle()])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "weights.json"])
def test_weights_that_can_run_code_are_refused_by_content(tmp_path, name, data):
    (tmp_path / "disguised").write_bytes(data)
    made = contents(tmp_path / "in")
    with pytest.raises(Refused, match=r"is not handed over: it is (a pickle|an archive)"):
        build(replace(made, files={**made.files, name: tmp_path / "disguised"}), tmp_path / "out")


def test_links_and_folders_are_refused(tmp_path):
    made = contents(tmp_path / "in")
    (tmp_path / "link").symlink_to(made.files["tokenizer.json"])
    for path in (tmp_path / "link", tmp_path, tmp_path / "nothing"):
        with pytest.raises(Refused, match="is a link or no file"):
            build(replace(made, files={**made.files, "tokenizer.json": path}), tmp_path / "out")


def test_weights_that_are_not_finite_are_not_handed_over(tmp_path):
    made = contents(tmp_path / "in")
    made.files["adapter_model.safetensors"].write_bytes(safetensors({**ADAPTER, "bad": floats(1, float("nan"))}))
    with pytest.raises(Refused, match="tensor 'bad' holds a value that is not finite"):
        build(made, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []  # and no half of it stays


@pytest.mark.parametrize("changed", [{"base": {"name": "x"}}, {"base": {"name": "x", "identity": "short"}}])
def test_a_base_without_identity_is_refused(tmp_path, changed):
    with pytest.raises(BadInput, match="`name` and `identity`"):
        build(contents(tmp_path / "in", **changed), tmp_path / "out")


def test_text_without_a_utf8_form_and_numbers_without_json_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no UTF-8 form"):
        build(contents(tmp_path / "in", texts={"a.txt": "\ud800"}), tmp_path / "out")
    with pytest.raises(BadInput, match="manifest cannot be written"):
        build(contents(tmp_path / "in", adapter={"kind": "lora", "x": float("nan")}), tmp_path / "out2")


def test_a_damaged_folder_is_not_zipped(tmp_path):
    folder = build(contents(tmp_path / "in"), tmp_path)
    (folder / "prompts.json").write_text("[ ]")
    with pytest.raises(Refused, match="would not verify"):
        zip_folder(folder)
    assert not folder.with_name("acme-support-1.0.0.zip").exists()


def test_an_empty_text_and_a_whole_model_can_be_handed_over(tmp_path):
    made = contents(tmp_path / "in")
    (tmp_path / "config.json").write_text("{}")
    files = {"config.json": tmp_path / "config.json", "model.safetensors": made.files["adapter_model.safetensors"]}
    folder = build(replace(made, adapter=None, files=files, texts={"notes.txt": ""}), tmp_path / "out")
    assert (folder / "notes.txt").read_bytes() == b""


def test_a_licence_that_is_not_known_is_said_to_be_unknown(tmp_path):
    folder = build(contents(tmp_path / "in", license=None), tmp_path / "out")
    assert json.loads((folder / "manifest.json").read_text())["license"] == "unknown"
    assert 'license: "unknown"' in (folder / "MODEL_CARD.md").read_text()
