"""A folder without a manifest: its adapter says which base it was trained on, if it was trained here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from handoff.packages import ADAPTER, safetensors
from tunewright.errors import Refused
from tunewright.handoff import verify
from tunewright.handoff.bound import bind, bound_to
from tunewright.project import Project

NAME = "adapter_model.safetensors"


@pytest.fixture
def bare(fake_spec, fake_host, tmp_path):
    """The two files of a trained adapter, without anything that the package has beside them."""
    summary = Project(fake_spec, (), fake_host).run(tmp_path / "first").summary
    package = Path(summary["artifacts"]["package"])
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("adapter_config.json", NAME):
        if (package / name).is_file():
            shutil.copyfile(package / name, folder / name)
    identity = json.loads((package / "manifest.json").read_text())["base"]["identity"]
    step = Path(summary["run_dir"]) / "steps/train/trained"
    assert bound_to(folder) == bound_to(step) == identity, "what was trained and what is handed over are one file"
    return folder


def train_on(bare, spec, host, root):
    kind = "adapter: {kind: fake"
    child = spec.with_name("child.yaml")
    child.write_text(spec.read_text().replace(f"{kind}}}", f"{kind}, parent: {bare}}}"))
    return Project(child, (), host).run(root).summary


def other_base(monkeypatch, folder):
    from tunewright_fakes import FakeSource, write_safetensors

    fetch = FakeSource.fetch

    def other(self, pin, out):
        fetch(self, pin, out)
        write_safetensors(out / "model.safetensors", "base", b"weights of another seed")

    monkeypatch.setattr(FakeSource, "fetch", other)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(folder / "another cache"))


def test_it_is_trained_on_upon_its_own_base_and_refused_on_another(fake_spec, fake_host, bare, tmp_path, monkeypatch):
    assert train_on(bare, fake_spec, fake_host, tmp_path / "second")["status"] == "passed"
    other_base(monkeypatch, tmp_path)
    with pytest.raises(Refused, match=r"the adapter in `.*bare` is of another base"):
        train_on(bare, fake_spec, fake_host, tmp_path / "third")


def test_one_that_names_no_base_is_taken_as_it_comes(fake_spec, fake_host, bare, tmp_path, monkeypatch):
    raw = (bare / NAME).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    del header["__metadata__"]
    text = json.dumps(header).encode()
    data = raw[8 + int.from_bytes(raw[:8], "little") :]
    (bare / NAME).write_bytes(len(text).to_bytes(8, "little") + text + data)
    other_base(monkeypatch, tmp_path)
    assert train_on(bare, fake_spec, fake_host, tmp_path / "second")["status"] == "passed"


def test_what_is_bound_is_the_same_adapter_for_everyone_else(tmp_path):
    from safetensors import safe_open

    path = tmp_path / NAME
    path.write_bytes(safetensors(ADAPTER))
    path.chmod(0o644)
    names = sorted(ADAPTER)

    def read():
        with safe_open(path, "pt") as tensors:
            return [tensors.get_tensor(name).tolist() for name in names], tensors.metadata()

    before, metadata = read()
    bind(tmp_path, "ab" * 32)
    once = path.read_bytes()
    assert read() == (before, {**metadata, "tunewright.base": "ab" * 32})
    with path.open("rb") as file:
        assert len(verify.read_tensors(file, path.stat().st_size)) == len(names)
        assert file.tell() % 8 == 0
    bind(tmp_path, "ab" * 32)
    assert path.read_bytes() == once
    assert path.stat().st_mode & 0o777 == 0o644
    assert [found.name for found in tmp_path.iterdir()] == [NAME]


def test_nothing_is_bound_where_there_is_no_adapter_and_damage_is_said(tmp_path):
    bind(tmp_path, "ab" * 32)
    assert (bound_to(tmp_path), list(tmp_path.iterdir())) == (None, [])
    (tmp_path / NAME).write_bytes(b"torn")
    with pytest.raises(Refused, match="cannot be read"):
        bound_to(tmp_path)
