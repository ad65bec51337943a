"""A merged adapter is a model by itself: it answers as base and adapter did, and says nothing of this machine."""

import json

import pytest
import torch
from peft_work import apart, load, merge, moved, save, wrap
from safetensors.torch import load_file, save_file

from tiny import FAMILIES, backend
from tunewright.errors import Refused
from tunewright.parts import Cap
from tunewright_peft.ia3 import Ia3
from tunewright_peft.lora import Lora

CASES = {
    "plain": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "pissa": {"init": "pissa"},
    "some layers": {"targets": "attention", "rank_pattern": {"q_proj": 2}},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "an adapted head": {"targets": ["q_proj", "lm_head"]},
    "an adapted embedding": {"targets": ["q_proj", "embed_tokens"]},
    "new tokens": {"args": {"trainable_token_indices": [4, 5, 6]}},
    "a tied head": {"modules_to_save": ["embed_tokens"], "args": {"ensure_weight_tying": True}},
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_it_answers_as_base_and_adapter(tiny_folder, tmp_path, options, tied):
    folder, method = tiny_folder(tied=tied), backend(Lora, r=4, **options)
    assert Cap.MERGES in method.offers()
    model = moved(wrap(folder, method))
    saved = save(method, model, tmp_path / "saved")
    out = merge(method, folder, saved, tmp_path / "out")
    assert apart(model, load(folder)) > 0.01
    assert apart(method.attach(load(folder), saved), model) < 1e-5
    assert apart(load(out), model) < 1e-4
    apart_now = "lm_head.weight" in load_file(out / "model.safetensors")
    says = json.loads((out / "config.json").read_text())["tie_word_embeddings"]
    assert says is not apart_now, "other engines go by what the config says"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [lambda: backend(Lora, r=4), lambda: backend(Ia3)], ids=["lora", "ia3"])
def test_every_family_merges(tiny_folder, tmp_path, family, method):
    made = method()
    model = moved(wrap(tiny_folder(family), made))
    out = merge(made, tiny_folder(family), save(made, model, tmp_path / "saved"), tmp_path / "out")
    assert apart(load(out), model) < 1e-4


def test_it_is_written_as_a_model_is(tiny_folder, tmp_path):
    method = backend(Lora, r=4)
    saved = save(method, moved(wrap(tiny_folder(), method, dtype="bf16")), tmp_path / "saved")
    one, two = (merge(method, tiny_folder(), saved, tmp_path / name, "bf16", trained="bf16") for name in ("one", "two"))
    assert {path.name for path in one.iterdir()} == {path.name for path in tiny_folder().iterdir()}
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
        assert str(tiny_folder()).encode() not in path.read_bytes()
    assert {tensor.dtype for tensor in load_file(one / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((one / "config.json").read_text())["use_cache"] is True


def test_numbers_that_overflow_are_refused(tiny_folder, tmp_path):
    method = backend(Lora, r=4)
    saved = save(method, moved(wrap(tiny_folder(), method)), tmp_path / "saved")
    path = saved / "adapter_model.safetensors"
    save_file({name: torch.full_like(tensor, 3e38) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(Refused, match=r"`model.layers.0.*proj.weight`"):
        merge(method, tiny_folder(), saved, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("args", [{"lora_bias": True}, {"alora_invocation_tokens": [5, 6]}])
def test_what_cannot_merge_is_not_offered(args):
    assert Cap.MERGES not in backend(Lora, args=args).offers()
