"""Two bases of equal weights that end their answers by other tokens are two, and what earlier versions kept is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tunewright.errors import Refused
from tunewright.pipeline.tasks import fetch
from tunewright.project import Project
from tunewright.store.cache import cache_root


@pytest.fixture
def ends(fakes, monkeypatch):
    """The text that ends an answer of the base, by its tokenizer's settings: the last of a list."""
    from tunewright_fakes import FakeSource

    fetched, texts = FakeSource.fetch, ["</s>"]

    def saying(self, pin, out):
        fetched(self, pin, out)
        (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": texts[-1]}))

    monkeypatch.setattr(FakeSource, "fetch", saying)
    return texts


def without(told):
    return {name: digest for name, digest in told.items() if name != "special"}


def test_a_parent_whose_base_ends_otherwise_is_refused_by_the_tokens_name(fake_spec, fake_host, ends, monkeypatch):
    first = Project(fake_spec, (), fake_host).run(fake_spec.parent / "first").summary
    package = Path(first["artifacts"]["package"])
    assert json.loads((package / "manifest.json").read_text())["base"]["special"] == {"eos_token": "</s>"}
    child = fake_spec.with_name("child.yaml")
    kind = "adapter: {kind: fake"
    child.write_text(fake_spec.read_text().replace(f"{kind}}}", f"{kind}, parent: {package}}}"))
    assert Project(child, (), fake_host).run(fake_spec.parent / "second").summary["status"] == "passed"
    ends.append("<|end|>")
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(fake_spec.parent / "another cache"))
    with pytest.raises(Refused, match=r"is of another base .*: other eos_token"):
        Project(child, (), fake_host).run(fake_spec.parent / "third")


def test_a_base_that_an_earlier_version_fetched_is_found_again(fake_spec, fake_host, ends, tmp_path, monkeypatch):
    """It kept no special tokens in its record; another project may have filled the cache anew since."""
    identity = fetch.model_identity
    with monkeypatch.context() as earlier:
        earlier.setattr(fetch, "model_identity", lambda folder: without(identity(folder)))
        Project(fake_spec, (), fake_host).run(tmp_path / "kept")
    shutil.rmtree(cache_root())
    Project(fake_spec, (), fake_host).run(tmp_path / "other")
    again = Project(fake_spec, ("trainer.learning_rate=0.25",), fake_host).run(tmp_path / "kept").summary
    assert again["status"] == "passed"
