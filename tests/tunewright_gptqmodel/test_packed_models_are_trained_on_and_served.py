"""GPTQ and AWQ for real: a base is packed and trained on, and what was trained is merged, packed and asked again.

These need the extra `gptq`, which asks for another torch than the rest is tested with.
"""

from __future__ import annotations

import json
import os
import random
import stat
from pathlib import Path

import pytest

from tiny import VOCABULARY, backend, tiny_model
from tunewright.digest import digest_file
from tunewright.host import Host
from tunewright.parts.adapter import ModelDir
from tunewright.parts.base import BadOption
from tunewright.parts.whole import copy_beside
from tunewright.project import Project
from tunewright.testing import World, check
from tunewright_gptqmodel import trials
from tunewright_gptqmodel.awq import Awq
from tunewright_gptqmodel.gptq import Gptq
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

pytest.importorskip("gptqmodel", reason="`make gptq` installs it")
pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]

BOTH = pytest.mark.parametrize("cls", [Gptq, Awq])
SPEC = """\
apiVersion: tunewright/v1
name: tiny
model: {source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}
quantization: %s
adapter: {kind: lora, r: 4, alpha: 8, targets: attention+mlp}
data:
  format: {kind: chat, system: Answer with the queue., prompt: "{text}", completion: "{queue}"}
  train: [{kind: csv, path: train.csv}]
  test: [{kind: csv, path: test.csv}]
trainer: {kind: sft, epochs: 8, batch_size: 4, learning_rate: 1.0e-2}
evals: [{kind: heldout, max_new_tokens: 8}]
exports: %s
seed: 3
"""
ROWS = [("where is my parcel", "delivery"), ("the parcel is late", "delivery"), ("I cannot sign in", "account")]
ROWS += [("my password is lost", "account"), ("when does it arrive", "delivery"), ("sign me in", "account")]


def rows(count):
    rng = random.Random(0)
    return [[rng.randrange(3, VOCABULARY) for _ in range(24)] for _ in range(count)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"), keys=4)


def make(cls, base, out, **options):
    """A packed base, as the step `quantize` makes it."""
    out.mkdir()
    loader = backend(TransformersLoader)
    outline = loader.outline(json.loads((base / "config.json").read_text()))
    backend(cls, calibration_rows=8, **options).make(ModelDir(base, outline, "fp32"), rows, out)
    copy_beside(base, out)
    return out


@pytest.fixture(scope="module")
def packed(base, tmp_path_factory):
    """`packed(Gptq)`: the base packed, made once."""
    made = {}

    def get(cls):
        if cls not in made:
            made[cls] = make(cls, base, tmp_path_factory.mktemp(cls.kind) / "packed")
        return made[cls]

    return get


def load(folder, quantizer, use="infer"):
    return backend(TransformersLoader).model(folder, quantizer, "fp32", use)


def logits(model, ids=(5, 6, 7, 8, 9, 10, 11)):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


@BOTH
def test_what_is_written_tells_nothing_of_this_machine_and_anyone_may_read_it(cls, packed):
    folder = packed(cls)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert not any(path.name.startswith((".", "quant")) for path in folder.iterdir())
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044
        text = path.read_bytes()
        assert str(folder).encode() not in text
        assert b"/tmp" not in text


@BOTH
def test_equal_inputs_give_equal_bytes(cls, base, packed, tmp_path):
    again = make(cls, base, tmp_path / "again")
    for path in packed(cls).iterdir():
        assert digest_file(again / path.name) == digest_file(path)


@BOTH
def test_a_packed_base_is_near_its_whole_weights(cls, base, packed):
    whole, few = logits(load(base, backend(NoQuantizer))), logits(load(packed(cls), backend(cls)))
    # in four bits random weights have no pattern to keep: 0.5 was measured; unpacked wrongly, it is 1.4, as any other
    assert 0 < ((whole - few).norm() / whole.norm()).item() < 0.8


@BOTH
def test_it_is_one_function_in_training_and_evaluation_with_a_gradient(cls, packed):
    import torch

    model = load(packed(cls), backend(cls), "train")
    before = logits(model)
    inside = model.model.layers[0].mlp.down_proj
    assert type(inside).__name__ in ("TorchLinear", "Plain")
    model.train()
    assert torch.equal(logits(model), before)
    wrapped = backend(Lora, r=4, alpha=8).wrap(model, None).train()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    wrapped(input_ids=ids, labels=ids).loss.backward()
    reached = [p.grad.norm().item() for name, p in wrapped.named_parameters() if "lora_B" in name]
    assert len(reached) == 14
    assert min(reached) > 0
    model.eval()
    assert torch.equal(logits(model), before)


@BOTH
def test_a_small_model_that_is_asked_is_unpacked_once_and_answers_the_same(cls, packed, monkeypatch):
    import torch

    from tunewright_gptqmodel import kept

    anew, asked = load(packed(cls), backend(cls), "train"), load(packed(cls), backend(cls), "infer")
    with torch.no_grad():
        for rows in (torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[5], [6]]), torch.tensor([[7]])):
            assert torch.equal(asked(rows).logits, anew(rows).logits)
    layer = asked.model.layers[0].mlp.down_proj
    assert layer.dequantize_weight() is layer.dequantize_weight()
    before = layer.dequantize_weight().clone()
    layer.qweight.bitwise_not_()
    assert not torch.equal(layer.dequantize_weight(), before)
    monkeypatch.setattr(kept, "KEPT_AT_MOST", 1)
    large = load(packed(cls), backend(cls), "infer").model.layers[0].mlp.down_proj
    assert large.dequantize_weight() is not large.dequantize_weight()


@BOTH
def test_the_layers_multiply_in_the_type_of_their_inputs(cls, packed):
    import torch

    layer = load(packed(cls), backend(cls)).model.layers[0].mlp.down_proj
    x = torch.linspace(-1, 1, layer.in_features)[None]
    alone = layer(x)
    assert alone.dtype == torch.float32
    large = layer(x * 1e6)  # fp16 would be infinite
    assert torch.allclose(large, alone * 1e6, rtol=1e-4)


@BOTH
def test_a_packed_weight_counts_as_what_it_holds(cls, base, packed):
    counts = {
        backend(Lora).count(backend(Lora).wrap(load(folder, quantizer, "train"), None))
        for folder, quantizer in ((base, backend(NoQuantizer)), (packed(cls), backend(cls)))
    }
    assert len(counts) == 1


@BOTH
def test_skipped_modules_stay_as_they_are(cls, base, tmp_path):
    import torch

    folder = make(cls, base, tmp_path / "packed", skip=["down_proj", "layers.1.self_attn"])
    model, whole = load(folder, backend(cls)), load(base, backend(NoQuantizer))
    plain = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert plain == {
        "lm_head", *(f"model.layers.{layer}.mlp.down_proj" for layer in (0, 1)),
        *(f"model.layers.1.self_attn.{name}_proj" for name in "qkvo"),
    }  # fmt: skip
    for name in plain:
        assert torch.equal(model.get_submodule(name).weight, whole.get_submodule(name).weight)


@BOTH
def test_the_ends_of_a_model_stay_as_they_are(cls, tmp_path):
    """As a search leaves them: the first block and the last, by the names that `skip` has for them."""
    import torch

    base = tiny_model(tmp_path / "base", keys=4, layers=3)
    ends = trials.ends(json.loads((base / "config.json").read_text()))
    model, whole = load(make(cls, base, tmp_path / "packed", skip=ends), backend(cls)), load(base, backend(NoQuantizer))
    plain = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in plain - {"lm_head"}} == {*ends}
    assert len(plain) == 1 + 2 * 7
    for name in plain:
        assert torch.equal(model.get_submodule(name).weight, whole.get_submodule(name).weight)


@BOTH
def test_a_skip_of_everything_is_refused(cls, base, tmp_path):
    with pytest.raises(BadOption, match="no layer is left to quantize"):
        make(cls, base, tmp_path / "packed", skip=["model.layers"])


def test_a_base_that_is_packed_otherwise_than_the_options_say_is_not_opened(packed):
    with pytest.raises(BadOption, match="`bits: 4`") as error:
        load(packed(Gptq), backend(Gptq, bits=8))
    assert error.value.finding.field == "bits"


@pytest.mark.parametrize("key", ["quantizer/gptq", "quantizer/awq", "exporter/gptq", "exporter/awq"])
def test_it_keeps_its_contract(key, base, tmp_path):
    host = Host()
    parts = {
        "loader": host.make("loader", {"kind": "transformers"}), "quantizer": host.make("quantizer", {"kind": "none"}),
        "method": host.make("adapter", {"kind": "lora", "r": 4, "alpha": 8}),
        "engine": host.make("engine", {"kind": "transformers"}),
    }  # fmt: skip
    (tmp_path / "kit").mkdir()
    options = {"calibration_rows": 3, "group_size": 32}
    check(host.backend(*key.split("/")), options, folder=tmp_path / "kit", world=World(base=base, **parts))


@pytest.fixture(scope="module", params=["gptq", "awq"])
def trained_on(request, tmp_path_factory):
    """(kind, summary) of a run whose base is packed."""
    yield from run(tmp_path_factory.mktemp(request.param), f"{{kind: {request.param}, calibration_rows: 4}}", "[]")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(kind, summary) of a run that exports both."""
    four = "{kind: gptq, calibration_rows: 4}, {kind: gptq, name: eight, bits: 8, calibration_rows: 4}"
    yield from run(tmp_path_factory.mktemp("exports"), "none", f"[{four}, {{kind: awq, calibration_rows: 4}}]")


def run(folder, quantization, exports):
    os.environ["TUNEWRIGHT_CACHE"] = str(folder / "cache")
    tiny_model(folder / "base", keys=4)
    for name, found in (("train.csv", ROWS), ("test.csv", ROWS[:4])):
        (folder / name).write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in found))
    spec = folder / "tiny.yaml"
    spec.write_text(SPEC % (quantization, exports))
    summary = Project.from_spec(spec).run(folder / "root").summary
    yield spec, summary
    os.environ.pop("TUNEWRIGHT_CACHE", None)


def test_lora_trains_on_a_packed_base(trained_on):
    spec, summary = trained_on
    assert summary["status"] == "passed", summary["why"]
    names = [step["name"] for step in summary["steps"]]
    assert names[:6] == ["fetch", "prepare", "contamination", "quantize", "evaluate-base", "train"]
    events = (Path(summary["run_dir"]) / "events.jsonl").read_text().splitlines()
    losses = [event["loss"] for event in map(json.loads, events) if event["event"] == "train"]
    assert losses[-1] < losses[0] / 2
    assert summary["parity"]["adapter"]["agreement"] == 1.0  # in a fresh process, on the same packed base
    package = Path(summary["artifacts"]["package"])
    assert (package / "base/config.json").is_file()
    answers = list(Project.from_spec(spec).predict([{"text": ROWS[0][0]}], spec.parent / "root"))
    assert answers[0].startswith("delivery")


def test_a_merged_model_is_packed_by_its_training_rows_and_asked_again(exported):
    _, summary = exported
    assert summary["status"] == "passed", summary["why"]
    parity = summary["parity"]
    assert parity["eight"]["agreement"] > 0.6  # random weights: many a token is nearly a tie, and what follows drifts
    assert parity["gptq"]["bytes"] < parity["eight"]["bytes"]
    for name, method, bits in (("gptq", "gptq", 4), ("awq", "awq", 4), ("eight", "gptq", 8)):
        files = Path(summary["artifacts"][name])
        stored = json.loads((files / "config.json").read_text())["quantization_config"]
        assert (stored["quant_method"], stored["bits"]) == (method, bits)
        assert (files / "tokenizer.json").is_file()
        assert parity[name]["identity"] not in (parity["adapter"]["identity"], None)
        assert not any(path.name.startswith(".") for path in files.iterdir())
