"""`adapter: {kind: peft}` takes any tuner of the installed PEFT that works here, and says of the others why not."""

import inspect
import itertools
import json

import pytest
import torch
from peft_work import apart, load, logits, merge, moved, save, wrap

from tiny import backend
from tunewright.errors import Refused
from tunewright.host import Host
from tunewright.parts import Cap, Facts
from tunewright.parts.base import BadOption
from tunewright.pipeline.library import check_arguments
from tunewright.project import Project
from tunewright_bitsandbytes.fp4 import Fp4
from tunewright_bitsandbytes.int8 import Int8
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.arguments import OURS
from tunewright_peft.tuner import TYPE, Tuner
from tunewright_peft.tuners import LOADS, REFUSED, TUNERS

SIZED = {
    "C3A": {"block_size": 32}, "FOURIERFT": {"n_frequency": 20},
    "FROD": {"progressbar": False}, "GRALORA": {"r": 8, "gralora_k": 2}, "OFT": {"oft_block_size": 4},
    "PSOFT": {"r": 8}, "PVERA": {"r": 8}, "RANDLORA": {"r": 4}, "ROAD": {"group_size": 8}, "SHIRA": {"r": 4},
    "TRAINABLE_TOKENS": {"token_indices": [3, 4, 5]}, "VBLORA": {"vector_length": 32, "num_vectors": 16},
    "VERA": {"r": 8}, "WAVEFT": {"n_frequency": 20},
}  # fmt: skip
"""What a width of 64 needs, where a tuner's own sizes are made for large models."""


def tuner(name, **args):
    return backend(Tuner, args={TYPE: name, **SIZED.get(name, {}), **args})


def test_the_table_is_the_installed_librarys():
    import peft

    installed = {kind.value: config for kind, config in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    assert not TUNERS.keys() & REFUSED.keys()
    assert TUNERS.keys() | REFUSED.keys() == installed.keys()
    for name, known in TUNERS.items():
        assert known.config == installed[name].__name__
        assert getattr(peft, known.config) is installed[name]
        own = set(inspect.signature(installed[name]).parameters) - OURS - {"task_type"}
        assert own == set(known.arguments.split()), name
    assert all(any(name in inspect.signature(config).parameters for config in installed.values()) for name in LOADS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("VERA", "LOHA") else [pytest.mark.slow]) for name in TUNERS]
)
def test_it_is_saved_attached_and_merged(tiny_folder, tmp_path, name):
    method, base = tuner(name), load(tiny_folder())
    assert not list(method.check(Facts()))
    assert not list(check_arguments(method, Facts())), "PEFT's own config takes them"
    model = moved(wrap(tiny_folder(), method))
    assert apart(model, base) > 1e-3
    trainable, total = method.count(model)
    assert 0 < trainable < total
    saved = save(method, model, tmp_path / "saved")
    assert {path.name for path in saved.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    torch.manual_seed(7)  # nothing that was drawn may be drawn again
    attached = method.attach(load(tiny_folder()), saved)
    assert method.digest(attached) == method.digest(model)
    assert apart(attached, model) < 1e-5
    if Cap.MERGES in method.offers():
        assert apart(load(merge(method, tiny_folder(), saved, tmp_path / "merged")), model) < 1e-4
    else:
        with pytest.raises(Refused, match="cannot be merged"):
            merge(method, tiny_folder(), saved, tmp_path / "merged")


PACKED = [name for name, known in TUNERS.items() if known.packed]
AT_ONCE = (("VERA", Nf4), ("ROAD", Int8), ("PVERA", Fp4))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(*case, marks=[] if case in AT_ONCE else [pytest.mark.slow])
        for case in itertools.product(PACKED, (Nf4, Fp4, Int8))
    ],
)
def test_on_a_packed_base_it_trains_and_answers_as_saved(tiny_folder, tmp_path, name, kind):
    method = tuner(name)
    assert [need.cap for need in method.needs()] == [Cap.TRAINABLE]
    model = moved(wrap(tiny_folder(), method, kind, "bf16"))
    for _ in range(2):  # what unpacks a layer in a step meets it again in the next
        model.train()(torch.arange(3, 40)[None], labels=torch.arange(3, 40)[None]).loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert all(p.grad is None or p.grad.isfinite().all() for p in trained)
    attached = method.attach(load(tiny_folder(), kind, "bf16", "train"), save(method, model, tmp_path / "saved"))
    assert method.digest(attached) == method.digest(model)
    assert torch.equal(logits(attached), logits(model))
    assert apart(model, load(tiny_folder(), kind, "bf16", "train")) > 1e-3
    if kind is Int8:  # 8 bits lose little: it does to the base what it does to plain weights
        assert apart(model, method.attach(load(tiny_folder(), dtype="bf16"), tmp_path / "saved")) < 0.2


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_over_packed_weights_validate_refuses_what_does_not_train(tiny_folder, tmp_path, kind):
    (tmp_path / "train.csv").write_text("text,queue\nwhere is my parcel,delivery\nI cannot sign in,account\n")
    host, wrong = Host(), {}
    for name, known in TUNERS.items():
        spec = {
            "apiVersion": "tunewright/v1", "name": "tiny", "quantization": kind,
            "model": {"source": {"kind": "local", "path": str(tiny_folder()), "license": "Apache-2.0"}},
            "adapter": {"kind": "peft", "args": {TYPE: name, **SIZED.get(name, {})}},
            "data": {"format": {"kind": "chat", "prompt": "{text}", "completion": "{queue}"},
                     "train": [{"kind": "csv", "path": "train.csv"}]},
            "trainer": {"kind": "sft"},
        }  # fmt: skip
        (tmp_path / "spec.yaml").write_text(json.dumps(spec, indent=1))
        codes = [problem.code for problem in Project.from_spec(tmp_path / "spec.yaml", host=host).validate()]
        if codes != ([] if known.packed else ["base-not-trainable"]):
            wrong[name] = codes
    assert wrong == {}


@pytest.mark.parametrize("name", ["HRA", "PEANUT"])
def test_what_would_take_packed_integers_for_weights_is_among_the_refused(tiny_folder, tmp_path, name):
    """They run without an error: only the answers show it, against those over the plain base."""
    method = tuner(name)
    model = moved(wrap(tiny_folder(), method, Int8, "bf16"))
    saved = save(method, model, tmp_path / "saved")
    assert apart(model, method.attach(load(tiny_folder(), dtype="bf16"), saved)) > 0.5
    assert Cap.FULLY_TRAINABLE in [need.cap for need in method.needs()]


def test_what_reads_the_bases_weights_needs_them_unpacked():
    for name, known in TUNERS.items():
        caps = [need.cap for need in tuner(name).needs()]
        assert (Cap.FULLY_TRAINABLE in caps) is not known.packed
    assert all(Cap.VLLM not in tuner(name).offers() for name in TUNERS)


@pytest.mark.parametrize("name", REFUSED)
def test_a_tuner_that_cannot_be_used_is_said_with_its_reason(tiny_folder, name):
    method = backend(Tuner, args={TYPE: name})
    (finding,) = method.check(Facts())
    assert (finding.code, finding.field) == ("unsupported-argument", "args.peft_type")
    assert REFUSED[name] in finding.message
    with pytest.raises(BadOption, match="cannot be trained here"):
        method.wrap(load(tiny_folder()), None)


@pytest.mark.parametrize(
    ("args", "code", "field", "says"),
    [
        ({}, "missing-key", "args", "VERA"),
        ({TYPE: "VERRA"}, "bad-value", "args.peft_type", "did you mean `VERA`"),
        ({TYPE: "vera"}, "bad-value", "args.peft_type", "did you mean `VERA`"),
        ({TYPE: ["VERA"]}, "bad-value", "args.peft_type", ""),
        ({TYPE: "VERA", "d_initail": 0.2}, "unknown-argument", "args.d_initail", "did you mean `d_initial`"),
        ({TYPE: "VERA", "r_dropout": 1}, "unknown-argument", "args.r_dropout", ""),
        ({TYPE: "VERA", "task_type": "SEQ_CLS"}, "argument-taken", "args.task_type", "remove"),
        ({TYPE: "VERA", "inference_mode": True}, "argument-taken", "args.inference_mode", "remove"),
        ({TYPE: "VERA", "auto_mapping": {"a": "b"}}, "argument-taken", "args.auto_mapping", "remove"),
    ],
)
def test_arguments_that_cannot_be_are_said_at_their_own_place(args, code, field, says):
    (finding,) = backend(Tuner, args=args).check(Facts())
    assert (finding.code, finding.field) == (code, field)
    assert says in finding.suggestion


def test_values_are_checked_against_the_tuners_own_config():
    assert Tuner.accepts == "peft:PeftConfig"
    method = backend(Tuner, args={TYPE: "VERA", "r": "many", "d_initial": 0.1})
    assert method.accepts == "peft:VeraConfig"
    (finding,) = check_arguments(method, Facts())
    assert (finding.code, finding.field) == ("wrong-type", "args.r")
    (finding,) = check_arguments(backend(Tuner, args={TYPE: "HRA", "layers_pattern": "h"}), Facts())
    assert finding.code == "bad-value", "what goes together only the library knows"


def test_modules_that_are_not_there_are_said(tiny_folder):
    with pytest.raises(BadOption, match="`query`") as error:
        wrap(tiny_folder(), tuner("VERA", target_modules=["q_proj", "query"]))
    assert error.value.finding.field == "args.target_modules"
    with pytest.raises(BadOption, match="the model has no module whose whole path"):
        wrap(tiny_folder(), tuner("VERA", target_modules=r".*\.nothing"))
    with pytest.raises(BadOption, match="VeraConfig refuses"):
        wrap(tiny_folder(), tuner("VERA", layers_to_transform=[9]))
