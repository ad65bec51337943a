"""A base on a hub: exactly the files of one commit, each as the hub lists it, whatever the branch does meanwhile."""

import errno
import json

import pytest
from safetensors.torch import load_file, save_file

from hub_server import hub  # noqa: F401
from tiny import backend, tiny_model
from tunewright.errors import EnvironmentFault, Refused
from tunewright.handoff.verify import model_identity
from tunewright.parts.base import BadOption
from tunewright_transformers.hub import HubSource
from tunewright_transformers.layout import INDEX
from tunewright_transformers.library import library
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

SECOND = "model-00002-of-00002.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model in two shards, with what else stands in a repository: its page, code, pickles, another format."""
    folder = tiny_model(tmp_path_factory.mktemp("acme"), tied=False)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], SECOND: names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "LICENSE").write_text("the licence")
    return folder


@pytest.fixture
def repo(hub, model):  # noqa: F811
    found = hub.repo("acme/tiny", model, card={"license": "apache-2.0"})
    beside = {"README.md": b"# Tiny", "modeling_acme.py": b"import os", "training_args.bin": b"pickle"}
    found.commit({**found.commits[found.main], **beside, "onnx/model.safetensors": b"other", "original/a.pth": b"old"})
    return found


@pytest.fixture
def source(hub, repo):  # noqa: F811
    return backend(HubSource, repo="acme/tiny", endpoint=hub.url)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def replaced(repo, **files):
    """A commit in which some files are others (None: not there)."""
    new = {**repo.commits[repo.main], **{name.replace("__", "."): data for name, data in files.items()}}
    return repo.commit({name: data for name, data in new.items() if data is not None})


def test_the_files_of_the_model_come_byte_for_byte_and_no_others(hub, source, model, out):  # noqa: F811
    source.fetch(source.pin(), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }
    assert not {"modeling_acme.py", "training_args.bin", "README.md", "a.pth"} & hub.files_asked()
    assert source.name == "acme/tiny"


def test_what_was_fetched_loads_and_is_the_same_model(source, model, out):
    source.fetch(source.pin(), out)
    assert model_identity(out) == model_identity(model)
    loaded = backend(TransformersLoader).model(out, backend(NoQuantizer), "fp32", "infer")
    assert loaded.config.model_type == "llama"


def test_a_pin_names_the_commit_and_keeps_it_when_the_branch_moves(source, repo, model, out):
    pin = source.pin()
    assert pin.values["commit"] == repo.main
    replaced(repo, config__json=b'{"model_type": "other"}')
    source.fetch(pin, out)
    assert (out / "config.json").read_bytes() == (model / "config.json").read_bytes()
    later = source.pin()
    assert (later.values["commit"], later.values["files"] != pin.values["files"]) == (repo.main, True)


def test_a_revision_is_a_commit_too(hub, repo):  # noqa: F811
    first = repo.main
    replaced(repo, config__json=b'{"model_type": "other"}')
    pin = backend(HubSource, repo="acme/tiny", endpoint=hub.url, revision=first).pin()
    assert pin.values["commit"] == first


def test_a_pin_downloads_no_weights(hub, source):  # noqa: F811
    source.pin()
    assert hub.files_asked() == {"config.json"}


def test_the_network_is_shut_again_for_all_else(source, repo, out):
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    library()
    source.fetch(source.pin(), out)
    assert constants.HF_HUB_OFFLINE
    with pytest.raises(OfflineModeIsEnabled):
        HfApi(endpoint=source.options.endpoint).model_info("acme/tiny")
    repo.private = True
    with pytest.raises(Exception, match="acme/tiny"):
        source.pin()
    assert constants.HF_HUB_OFFLINE


def test_a_flipped_byte_is_refused_with_both_digests(source, repo, out):
    whole = repo.commits[repo.main][SECOND]
    repo.spoilt[SECOND] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(Refused, match=f"`{SECOND}` of `acme/tiny`.*sha256:.*lists.*sha256:"):
        source.fetch(source.pin(), out)


def test_a_small_file_is_proven_like_a_large_one(source, repo, out):
    repo.spoilt["tokenizer.json"] = repo.commits[repo.main]["tokenizer.json"].replace(b'"my"', b'"me"')
    with pytest.raises(Refused, match=r"`tokenizer.json` of `acme/tiny`"):
        source.fetch(source.pin(), out)


def test_a_commit_that_lists_other_files_than_at_the_pin_is_refused(hub, source, repo, out):  # noqa: F811
    pin = source.pin()
    repo.commits[repo.main] = {**repo.commits[repo.main], SECOND: b"other weights"}
    with pytest.raises(Refused, match="lists other files than when it was pinned"):
        source.fetch(pin, out)
    assert list(out.iterdir()) == []


def test_a_shard_that_the_index_names_but_the_commit_lacks_is_said_before_weights_come(hub, source, repo, out):  # noqa: F811
    replaced(repo, **{SECOND.replace(".", "__"): None})
    with pytest.raises(BadOption, match=f"`acme/tiny` lacks the shard `{SECOND}`"):
        source.fetch(source.pin(), out)
    assert not [ask for ask in hub.asked if ask.host == "storage"]


def test_a_shard_that_is_listed_but_not_there_is_refused(source, repo, out):
    pin = source.pin()
    repo.spoilt[SECOND] = None
    with pytest.raises(Refused, match=f"lists {SECOND} at {repo.main} in `acme/tiny`, but does not have it"):
        source.fetch(pin, out)


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, source, model, out, monkeypatch):  # noqa: F811
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    pin = source.pin()
    hub.cut = 1000
    source.fetch(pin, out)
    assert (out / SECOND).read_bytes() == (model / SECOND).read_bytes()
    assert len([ask for ask in hub.asked if ask.host == "storage"]) == 3


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        ({"config.json": b'{"model_type": "llama"}', "pytorch_model.bin": b"x"}, "pickle-weights", "pytorch_model.bin"),
        ({"config.json": b'{"model_type": "llama"}', "README.md": b"soon"}, "not-a-model", "no *.safetensors"),
        ({"model.safetensors": b"x"}, "not-a-model", "no config.json"),
        ({"config.json": b"{", "model.safetensors": b"x"}, "not-a-model", "not JSON"),
    ],
)
def test_what_is_no_model_is_said_at_plan(source, repo, files, code, said):
    repo.commit(files)
    with pytest.raises(BadOption) as error:
        source.pin()
    assert (error.value.finding.code, error.value.finding.field, error.value.exit_code) == (code, "repo", 2)
    assert said in str(error.value)
    assert "acme/tiny" in str(error.value)


def test_a_page_that_is_no_hub_is_named(source, monkeypatch):
    monkeypatch.setattr("hub_server._sibling", lambda name, data: {"file": name})
    with pytest.raises(EnvironmentFault, match=r"does not answer as a hub does(.|\n)*login page"):
        source.pin()


def test_a_hub_that_lists_no_digests_is_refused(source, monkeypatch):
    monkeypatch.setattr("hub_server._sibling", lambda name, data: {"rfilename": name})
    with pytest.raises(Refused, match="a download could not be proven"):
        source.pin()


@pytest.mark.parametrize(
    ("page", "said", "license"),
    [
        ({"license": "apache-2.0"}, {}, "Apache-2.0"),
        ({"license": "llama3.1"}, {}, "llama3.1"),
        ({"license": "other"}, {}, ""),
        ({}, {}, ""),
        ({"license": "mit"}, {"license": "CC-BY-4.0"}, "CC-BY-4.0"),
    ],
)
def test_the_licence_is_the_specs_or_the_pages(hub, model, page, said, license):  # noqa: F811
    hub.repo("acme/other", model, card=page)
    source = backend(HubSource, repo="acme/other", endpoint=hub.url, **said)
    assert source.license == said.get("license", "")
    source.pin()
    assert source.license == license


def test_a_full_disk_is_said_with_the_size(source, out, monkeypatch):
    def full(url, sink, **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    pin = source.pin()
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(EnvironmentFault, match=r"the disk is full: writing .* needs [0-9,]+ bytes"):
        source.fetch(pin, out)
