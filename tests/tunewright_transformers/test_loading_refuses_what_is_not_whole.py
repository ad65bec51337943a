"""A folder that is not wholly a model is refused: the library would fill the gap with random numbers, or run code."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import EOS, backend
from tunewright.errors import BadInput
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder(tied=False), tmp_path / "model")


@pytest.fixture
def loader():
    return backend(TransformersLoader)


def load(loader, folder, dtype="fp32", use="infer"):
    return loader.model(folder, backend(NoQuantizer), dtype, use)


def edit(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_tensor(loader, folder):
    edit(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(BadInput, match=r"missing: model.layers.1.mlp.up_proj.weight"):
        load(loader, folder)


def test_a_tensor_of_another_shape(loader, folder):
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(8, 64)}))
    with pytest.raises(BadInput, match=r"another shape than config.json says: lm_head.weight"):
        load(loader, folder)


def test_a_file_that_is_cut(loader, folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(loader, folder)


def test_pickled_weights_are_not_opened(loader, folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(loader, folder)


def test_code_in_the_folder_is_not_run(loader, folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "acme", "auto_map": {"AutoModelForCausalLM": "canary.Model", "AutoConfig": "canary.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    mark = folder / "canary-was-here"
    (folder / "canary.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(loader, folder)
    assert not mark.exists()


def test_a_config_that_contradicts_itself(loader, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 7}))
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(loader, folder)


def test_no_tokenizer(loader, folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(BadInput, match="cannot be loaded"):
        loader.tokenizer(folder)


def test_no_template(loader, folder):
    (folder / "chat_template.jinja").unlink()
    tokenizer = loader.tokenizer(folder)
    assert tokenizer.template == ""
    with pytest.raises(BadInput, match="no chat template"):
        tokenizer.render([{"role": "user", "content": "hi"}], generation_prompt=True)


def test_a_template_that_refuses_the_conversation(loader, folder):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(BadInput, match="roles must alternate"):
        loader.tokenizer(folder).render([{"role": "user", "content": "hi"}], generation_prompt=True)


def test_a_template_cannot_leave_its_sandbox(loader, folder):
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(BadInput, match="refuses the conversation"):
        loader.tokenizer(folder).render([{"role": "user", "content": "hi"}], generation_prompt=True)


def test_a_whole_model_loads_in_the_type_that_was_asked_for(loader, folder):
    asked = load(loader, folder, "bf16")
    assert {p.dtype for p in asked.parameters()} == {torch.bfloat16}
    assert not asked.training
    assert not any(p.requires_grad for p in asked.parameters())
    assert any(p.requires_grad for p in load(loader, folder, use="train").parameters())


def test_answers_end_at_the_tokenizers_and_the_generation_configs_ids(loader, folder):
    assert loader.tokenizer(folder).stops == {EOS}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, EOS, 9]}))
    assert loader.tokenizer(folder).stops == {7, EOS, 9}
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 11}))
    assert loader.tokenizer(folder).stops == {11, EOS}


def test_text_goes_through_the_tokenizer_unchanged(loader, folder):
    tokenizer = loader.tokenizer(folder)
    text = tokenizer.render([{"role": "user", "content": "a , b é 你"}], generation_prompt=True)
    assert text == "<|im_start|>user\na , b é 你<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, special=True) == text
    assert tokenizer.decode(ids, special=False) == "user\na , b é 你\nassistant\n"
    assert ids.count(EOS) == 1


def test_the_seed_fixes_what_torch_draws(loader):
    loader.seed(5)
    first = torch.rand(3)
    loader.seed(5)
    assert torch.equal(torch.rand(3), first)


def test_only_the_loader_calls_from_pretrained():
    from pathlib import Path

    import tunewright_transformers

    plugins = Path(tunewright_transformers.__file__).parent.parent
    calls = {
        path.relative_to(plugins).as_posix()
        for path in plugins.rglob("*.py")
        if ".from_pretrained(" in path.read_text("utf-8")
    }
    assert calls == {"tunewright_transformers/loader.py"}


def test_the_library_is_offline_even_if_something_else_was_first(monkeypatch):
    from huggingface_hub import constants

    from tunewright_transformers.library import library

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    library()
    assert constants.is_offline_mode()
