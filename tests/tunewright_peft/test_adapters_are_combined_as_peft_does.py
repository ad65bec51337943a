"""`weighted`: several adapters become one by PEFT's own hands, and what PEFT would lose in silence is refused."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from peft_work import load, logits, moved, save, wrap
from safetensors.torch import load_file

from tiny import backend
from tunewright.errors import Refused
from tunewright.parts import BadOption, Facts
from tunewright.parts.exporter import Trained
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright_bitsandbytes.int8 import Int8
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.ia3 import Ia3
from tunewright_peft.lora import Lora
from tunewright_peft.weighted import WeightedExporter
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

PRUNED = {"density": 0.5}


@pytest.fixture
def saved(tiny_folder, tmp_path):
    """`saved(name, …)`: the folder of an adapter on the tiny base, its numbers its own."""

    def make(name, method=None, step=0.05, **options):
        method = method or backend(Lora, **{"r": 4, "alpha": 8, **options})
        return save(method, moved(wrap(tiny_folder(), method), step), tmp_path / name)

    return make


def trained(base, folder, method=None, seed=0):
    """What an exporter is given."""
    method, loader = method or backend(Lora, r=4, alpha=8), backend(TransformersLoader)
    whole = Whole(loader, backend(NoQuantizer), method, "fp32", identity_of)
    return Trained(folder, base, "", "acme/base", "transformers", loader.tokenizer(base), True, whole, seed=seed)


def combined(base, ours, others, out, seed=0, **options):
    """The form, and the folder that was exported."""
    out.mkdir()
    adapters = [{"path": str(path), "weight": weight} for path, weight in others]
    made = backend(WeightedExporter, adapters=adapters, **options)
    return made.export(trained(base, ours, seed=seed), out), out


def plainly(base, adapters, seed=0, **arguments):
    """The same by PEFT alone, on the loaded base."""
    names = [f"one{place}" for place in range(len(adapters))]
    model = peft.PeftModel.from_pretrained(load(base), adapters[0][0], adapter_name=names[0])
    for name, (folder, _) in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(folder, adapter_name=name)
    torch.manual_seed(seed)
    model.add_weighted_adapter(names, [weight for _, weight in adapters], "blend", **arguments)
    model.set_adapter("blend")
    return model


WAYS = [
    {"combination": "cat"},
    {"combination": "linear"},
    {"combination": "svd", "svd_rank": 5, "svd_clamp": 0.9},
    {"combination": "ties", **PRUNED, "majority_sign": "frequency"},
    {"combination": "ties_svd", **PRUNED},
    {"combination": "dare_linear", **PRUNED},
    {"combination": "dare_ties_svd", **PRUNED},
    {"combination": "magnitude_prune", **PRUNED},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["combination"])
def test_it_is_what_peft_makes_of_them_on_the_loaded_base(tiny_folder, tmp_path, saved, way):
    ours, other = saved("ours"), saved("other", step=-0.08)
    form, out = combined(tiny_folder(), ours, [(other, -0.5)], tmp_path / "out", weight=0.75, seed=7, **way)
    named = {"combination": "combination_type", "majority_sign": "majority_sign_method"}
    arguments = {named.get(name, name): value for name, value in way.items()}
    expected = plainly(tiny_folder(), [(ours, 0.75), (other, -0.5)], 7, svd_full_matrices=False, **arguments)
    tensors = peft.get_peft_model_state_dict(expected, adapter_name="blend", save_embedding_layers=False)
    found = load_file(out / "adapter_model.safetensors")
    assert tensors.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in tensors.items())
    served = peft.PeftModel.from_pretrained(load(tiny_folder()), out)  # as a client does
    torch.testing.assert_close(logits(served), logits(expected))
    method = backend(Lora, r=4, alpha=8)
    assert method.digest(method.attach(load(tiny_folder()), out)) == form.digest  # what parity proves
    assert (form.attach, form.dtype) == (True, None)


def deltas(base, folder):
    """What a saved adapter changes each layer by."""
    model = peft.PeftModel.from_pretrained(load(base), folder)
    return {
        path: module.get_delta_weight("default")
        for path, module in model.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ({"r": 4}, {"r": 2, "alpha": 6}),
        ({"rslora": True}, {"rslora": True}),  # by PEFT alone, √r times as much as it should be
        ({"rslora": True}, {"rslora": False}),
        ({"targets": ["q_proj", "embed_tokens"]}, {"targets": ["down_proj", "embed_tokens"]}),
        ({"rank_pattern": {"q_proj": 6}, "alpha_pattern": {"k_proj": 3}}, {}),
    ],
)
def test_cat_is_the_weighted_sum_of_what_each_changes(tiny_folder, tmp_path, saved, ours, other):
    one, two = saved("one", **ours), saved("two", step=0.1, **other)
    _, out = combined(tiny_folder(), one, [(two, 0.5)], tmp_path / "out", weight=-2.0)
    first, second, sums = (deltas(tiny_folder(), folder) for folder in (one, two, out))
    assert sums.keys() == first.keys() | second.keys()
    for path, found in sums.items():
        expected = -2.0 * first.get(path, 0.0) + 0.5 * second.get(path, 0.0)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_equal_runs_give_equal_bytes_and_only_random_ones_depend_on_the_seed(tiny_folder, tmp_path, saved):
    ours, others = saved("ours"), [(saved("other", step=0.1), 0.5)]

    def made(name, seed, **way):
        before = torch.get_rng_state()
        _, out = combined(tiny_folder(), ours, others, tmp_path / name, seed=seed, **way)
        assert torch.equal(torch.get_rng_state(), before)  # the process's own draws go on as if nothing was
        return {file.name: file.read_bytes() for file in out.iterdir()}

    random = {"combination": "dare_linear", **PRUNED}
    assert made("a", 1, **random) == made("b", 1, **random) != made("c", 2, **random)
    steady = {"combination": "ties", **PRUNED}
    assert made("d", 1, **steady) == made("e", 2, **steady)
    adapters = [{"path": "x", "weight": 1.0}]
    assert backend(WeightedExporter, adapters=adapters, **random).draws()
    assert not backend(WeightedExporter, adapters=adapters, **steady).draws()


@pytest.mark.parametrize(("kind", "dtype"), [(NoQuantizer, "bf16"), (Nf4, "fp32"), (Int8, "bf16")])
def test_its_tensors_are_proven_on_a_base_of_any_type(tiny_folder, tmp_path, saved, kind, dtype):
    method = backend(Lora, r=4, alpha=8)
    ours = save(method, moved(wrap(tiny_folder(), method, kind, dtype)), tmp_path / "ours")
    form, out = combined(tiny_folder(), ours, [(saved("other", step=0.1), 0.5)], tmp_path / "out")
    assert method.digest(method.attach(load(tiny_folder(), kind, dtype), out)) == form.digest


def test_nothing_is_needed_of_the_base_but_its_config_and_tokenizer(tiny_folder, tmp_path, saved):
    ours, other = saved("ours"), saved("other", step=0.1)
    base = shutil.copytree(tiny_folder(), tmp_path / "base")
    (base / "model.safetensors").unlink()
    packed = {**json.loads((base / "config.json").read_text()), "quantization_config": {"quant_method": "gptq"}}
    (base / "config.json").write_text(json.dumps(packed))  # an adapter on a packed base is an adapter like any other
    _, out = combined(base, ours, [(other, 0.5)], tmp_path / "out")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {f.name for f in out.iterdir()}
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == ("acme/base", 8, 8)
    assert str(tmp_path) not in (out / "adapter_config.json").read_text()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"dora": True}, "has `use_dora`, which would be lost"),
        ({"modules_to_save": ["model.norm"]}, "has `modules_to_save`, which would be lost"),
    ],
)
def test_what_peft_would_lose_in_silence_is_refused(tiny_folder, tmp_path, saved, other, says):
    ours, other = saved("ours"), saved("other", **other)
    for place, pair in enumerate([(ours, other), (other, ours)]):
        with pytest.raises(Refused, match=says):
            combined(tiny_folder(), pair[0], [(pair[1], 0.5)], tmp_path / f"out{place}")


def test_a_layer_that_the_first_adapter_leaves_out_is_not_lost(tiny_folder, tmp_path, saved):
    """PEFT takes the first one's `layers_to_transform` for all: what the other learnt in its layers would be gone."""
    ours, other = saved("ours", args={"layers_to_transform": [0]}), saved("other")
    with pytest.raises(Refused, match="they choose their layers in different ways"):
        combined(tiny_folder(), ours, [(other, 0.5)], tmp_path / "out")


def test_an_adapter_of_another_base_or_of_another_method_is_refused(tiny_folder, tmp_path, saved):
    ours = saved("ours")
    stranger = tmp_path / "stranger"
    save(backend(Lora, r=4), moved(wrap(tiny_folder(keys=4), backend(Lora, r=4))), stranger)
    made = backend(
        WeightedExporter, adapters=[{"path": str(ours), "weight": 1.0}, {"path": str(stranger), "weight": 1.0}]
    )
    loader, config = backend(TransformersLoader), json.loads((tiny_folder() / "config.json").read_text())
    with pytest.raises(BadOption, match="stranger is not a whole adapter of this base") as caught:
        made.fit(lambda: loader.outline(config))  # as `plan` does, with the base's config.json alone
    assert caught.value.finding.field == "adapters.1.path"
    with pytest.raises(Refused, match="stranger is not a whole adapter of this base"):
        combined(tiny_folder(), ours, [(stranger, 0.5)], tmp_path / "a")
    scales = saved("scales", backend(Ia3))
    with pytest.raises(Refused, match="scales is not a LORA of a causal language model, but IA3"):
        combined(tiny_folder(), ours, [(scales, 0.5)], tmp_path / "b")


def test_which_of_them_may_be_of_another_quantization_stands_at_each():
    entries = [{"path": "one", "weight": 1.0}, {"path": "two", "weight": 1.0, "other_quantization": True}]
    made = backend(WeightedExporter, adapters=entries)
    assert [field for field in made.takes_up() if field in made.takes_other_quantization()] == ["adapters.1.path"]


def test_a_rank_that_a_layer_has_not_is_refused(tiny_folder, tmp_path, saved):
    ours, other = saved("ours"), saved("other", step=0.1)
    with pytest.raises(Refused, match="svd"):
        combined(tiny_folder(), ours, [(other, 0.5)], tmp_path / "out", combination="svd", svd_rank=60)


# ---------------------------------------------------------------- what `validate` says


def findings(options, ours=None, saved="nowhere"):
    adapters = [{"path": str(saved), "weight": options.pop("other", 0.5)}]
    made = backend(WeightedExporter, adapters=adapters, **options)
    facts = Facts(saves=backend(Lora, **(ours or {})).saves(Facts()))
    return [(found.code, found.field, found.message) for found in made.check(facts)]


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [
        ({"density": 0.5}, "argument-unused", "density"),
        ({"combination": "svd", "density": 0.5}, "argument-unused", "density"),
        ({"combination": "linear", "svd_rank": 4}, "argument-unused", "svd_rank"),
        ({"combination": "ties", "density": 0.5, "svd_clamp": 0.5}, "argument-unused", "svd_clamp"),
        ({"combination": "dare_linear", "density": 0.5, "majority_sign": "total"}, "argument-unused", "majority_sign"),
        ({"combination": "dare_linear"}, "missing-key", "combination"),
        ({"weight": 0.0}, "argument-unused", "weight"),
        ({"other": 0.0}, "argument-unused", "adapters.0.weight"),
    ],
)
def test_an_option_that_does_nothing_stands_at_its_key(options, code, field):
    ((found, place, _),) = findings(options)
    assert (found, place) == (code, field)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"combination": "ties", "density": 0.5, "majority_sign": "total"},  # a default may be written where it does it
        {"combination": "ties", "density": 0.5, "majority_sign": "frequency", "other": 0.0},  # it votes all the same
        {"combination": "ties_svd", "density": 0.5, "svd_rank": 4, "svd_clamp": 0.5},
    ],
)
def test_options_that_do_something_are_taken(options):
    assert findings(options) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "says"),
    [
        ({"r": 8}, {"r": 4}, {"combination": "linear"}, "has rank 4, and this adapter rank 8: `linear` needs equal"),
        ({"r": 8, "init": "pissa"}, {"r": 8}, {"combination": "linear"}, "rank 8, and this adapter rank 16"),
        ({"r": 4}, {"rank_pattern": {"q_proj": 2}}, {"combination": "linear"}, "has layers of ranks of their own"),
        ({"r": 4, "rank_pattern": {"q_proj": 2}}, {}, {"combination": "linear"}, "has layers of ranks of their own"),
        ({"dora": True}, {}, {}, "the adapter has `use_dora`, which would be lost"),
        ({}, {"dora": True}, {}, "`other` has `use_dora`, which would be lost"),
        ({}, {"args": {"layers_to_transform": [0]}}, {}, "has `layers_to_transform: [0]`, and this adapter"),
    ],
)
def test_adapters_that_do_not_go_together_are_told_before_a_run(saved, ours, theirs, options, says):
    found = findings(options, ours, saved("other", **theirs))
    assert [says in message for _, _, message in found] == [True], found


def test_what_is_no_lora_is_told_before_a_run(saved, tmp_path):
    ((code, field, message),) = findings({}, {}, saved("scales", backend(Ia3)))
    assert (code, field) == ("cannot-combine", "adapters.0.path")
    assert "`scales` is IA3, and PEFT combines LoRA alone" in message
    ((code, field, message),) = findings({}, {}, tmp_path)
    assert (code, field) == ("bad-value", "adapters.0.path")
