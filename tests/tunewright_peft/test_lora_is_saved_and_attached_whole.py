"""An adapter's way: wrapped, trained, saved to stable bytes, attached again, and opened by PEFT alone."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import FAMILIES, backend
from tunewright.errors import Refused
from tunewright.parts.engine import Served
from tunewright.parts.exporter import Trained
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.lora import Lora
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.export import AdapterExporter
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

PROMPTS = [[{"role": "user", "content": text}] for text in ("hi", "where is my parcel", "billing")]
WEIGHTS = "adapter_model.safetensors"


def load(folder, kind=NoQuantizer, dtype="fp32", use="infer"):
    return backend(TransformersLoader).model(folder, backend(kind), dtype, use)


def train(folder, kind=NoQuantizer, dtype="fp32", **options):
    """A wrapped model as a trainer leaves it: every trainable number moved."""
    torch.manual_seed(0)
    model = backend(Lora, **options).wrap(load(folder, kind, dtype, "train"), None)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += (0.05 * torch.randn(parameter.shape)).to(parameter.dtype)
    return model


def save(model, out, **options):
    out.mkdir()
    backend(Lora, **options).save(model, out)
    return out


@pytest.fixture
def saved(tiny_folder, tmp_path):
    return save(train(tiny_folder()), tmp_path / "saved")


@pytest.mark.parametrize("kind", [NoQuantizer, Nf4])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_copy_that_is_attached_has_the_trained_digest(tiny_folder, tmp_path, kind, dtype):
    model, method = train(tiny_folder(), kind, dtype), backend(Lora)
    again = method.attach(load(tiny_folder(), kind, dtype), save(model, tmp_path / "saved"))
    assert method.digest(again) == method.digest(model)
    assert not any(parameter.requires_grad for parameter in again.parameters())
    with torch.no_grad():
        next(p for name, p in again.named_parameters() if "lora_B" in name)[0, 0] += 1
    assert method.digest(again) != method.digest(model)


def test_equal_runs_give_equal_bytes(tiny_folder, tmp_path):
    """Two processes order sets otherwise, so the lists are compared with sorted ones too."""
    one, two = (save(train(tiny_folder()), tmp_path / name) for name in ("one", "two"))
    assert {path.name for path in one.iterdir()} == {"adapter_config.json", WEIGHTS}
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
    config = json.loads((one / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["inference_mode"] is True
    assert config["base_model_name_or_path"] is None, "a path of this machine would differ on the next one"
    assert str(tiny_folder()) not in (one / "adapter_config.json").read_text()


def test_only_the_trained_adapter_is_saved(tiny_folder, tmp_path):
    """TRL's preference trainers put a reference adapter beside it."""
    model = train(tiny_folder())
    model.add_adapter("ref", model.peft_config["default"])
    out = save(model, tmp_path / "saved")
    assert not [name for name in load_file(out / WEIGHTS) if "ref" in name]
    assert {path.name for path in out.iterdir()} == {"adapter_config.json", WEIGHTS}


def test_saving_asks_no_hub(tiny_folder, tmp_path, monkeypatch):
    from peft.utils import other, save_and_load

    def asked(*given, **named):
        raise AssertionError(f"asked a hub: {given}")

    for module in (other, save_and_load):
        monkeypatch.setattr(module, "check_file_exists_on_hf_hub", asked)
    model = train(tiny_folder())
    model.peft_config["default"].base_model_name_or_path = "some-org/some-model"
    save(model, tmp_path / "saved")
    backend(Lora).digest(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_peft_alone_gives_the_same_answers(tiny_folder, tmp_path, family):
    """A script of ten lines, from the exported folder: the same tokens, the same logits to the last bit."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, loader = tiny_folder(family), backend(TransformersLoader)
    saved = save(train(folder, dtype="bf16"), tmp_path / "saved")
    out = tmp_path / "out"
    out.mkdir()
    trained = Trained(saved, folder, "id", "acme/Tiny-1B", "transformers", loader.tokenizer(folder), adapts=True)
    form = backend(AdapterExporter).export(trained, out)
    assert form.attach
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "acme/Tiny-1B"

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    bare = base(torch.arange(3, 40)[None]).logits
    model, tokenizer = PeftModel.from_pretrained(base, out).eval(), AutoTokenizer.from_pretrained(out)
    with backend(TransformersEngine).open(
        Served(folder, loader, backend(NoQuantizer), "bf16", backend(Lora), out)
    ) as subject:
        ids = torch.arange(3, 40)[None]
        assert torch.equal(subject.model(ids).logits, model(ids).logits)
        assert not torch.equal(model(ids).logits, bare)
        answers = subject.complete(PROMPTS, 8, together=False)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        given = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        assert given["input_ids"][0].tolist() == answer.prompt_ids
        made = model.generate(**given, max_new_tokens=8, do_sample=False)
        assert made[0, len(answer.prompt_ids) :].tolist() == answer.ids


def test_batches_answer_with_the_adapter_as_single_rows_do(tiny_folder, saved):
    loader, none = backend(TransformersLoader), backend(NoQuantizer)
    with backend(TransformersEngine).open(Served(tiny_folder(), loader, none, "fp32")) as subject:
        base = [answer.ids for answer in subject.complete(PROMPTS, 8)]
    served = Served(tiny_folder(), loader, none, "fp32", backend(Lora), saved)
    with backend(TransformersEngine).open(served) as subject:
        together = [answer.ids for answer in subject.complete(PROMPTS, 8)]
        assert together == [answer.ids for answer in subject.complete(PROMPTS, 8, together=False)]
        assert together != base


def test_a_parent_is_continued(tiny_folder, saved):
    method = backend(Lora)
    model = method.wrap(load(tiny_folder(), use="train"), saved)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert method.digest(model) == method.digest(method.attach(load(tiny_folder()), saved))


def tensors(change):
    def spoil(folder):
        found = load_file(folder / WEIGHTS)
        change(found, sorted(found)[0])
        save_file(found, folder / WEIGHTS)

    return spoil


def config(**changes):
    def spoil(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


SPOILS = {
    "a tensor is missing": tensors(lambda found, first: found.pop(first)),
    "a tensor too many": tensors(lambda found, first: found.update(other=torch.zeros(1))),
    "another shape": tensors(lambda found, first: found.update({first: torch.zeros(3, 3)})),
    "not a number": tensors(lambda found, first: found[first].view(-1)[:1].fill_(float("nan"))),
    "infinite": tensors(lambda found, first: found[first].view(-1)[:1].fill_(float("inf"))),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "cut": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
    "a pickle beside it": lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80\x02."),
    "a pickle instead": lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"),
    "no config": lambda folder: (folder / "adapter_config.json").unlink(),
    "a config that is no mapping": lambda folder: (folder / "adapter_config.json").write_text("[]"),
    "another method": config(peft_type="VERA"),
    "code to import": config(auto_mapping={"parent_library": "canary", "base_model_class": "Canary"}),
    "other code to import": config(megatron_config={"a": 1}, megatron_core="canary"),
    "an unknown key": config(canary="x"),
    "another rank": config(r=8),
    "other targets": config(target_modules=["q_proj"]),
    "targets that are not there": config(target_modules=["no_such"]),
    "a wrong type": config(r="sixteen"),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_an_adapter_that_is_not_whole_is_refused(tiny_folder, saved, tmp_path, spoil):
    folder = shutil.copytree(saved, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(Refused):
        backend(Lora).attach(load(tiny_folder()), folder)


def test_an_adapter_of_another_family_is_refused(tiny_folder, tmp_path):
    """Qwen's projections have the same names; another width does not fit."""
    wide = save(train(tiny_folder(), r=4), tmp_path / "saved", r=4)
    with pytest.raises(Refused, match="does not match"):
        found = load_file(wide / WEIGHTS)
        save_file({name: torch.zeros(tensor.shape[0], 128) for name, tensor in found.items()}, wide / WEIGHTS)
        backend(Lora).attach(load(tiny_folder("mistral")), wide)
