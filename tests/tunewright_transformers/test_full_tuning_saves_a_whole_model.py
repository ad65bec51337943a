"""Full fine-tuning: every weight trains, a whole model is saved, and it opens by itself and on its base alike."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import backend
from tunewright.errors import Refused
from tunewright.parts import Cap
from tunewright.parts.base import BadOption
from tunewright.parts.engine import Served
from tunewright.parts.exporter import Trained
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.export import AdapterExporter
from tunewright_transformers.full import FullTuning
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

PROMPTS = [[{"role": "user", "content": text}] for text in ("hi", "where is my parcel")]


def load(folder, dtype="fp32", use="train"):
    return backend(TransformersLoader).model(folder, backend(NoQuantizer), dtype, use)


def train(folder, dtype="fp32"):
    """A model as a trainer leaves it: every parameter moved, the cache switched off."""
    model = backend(FullTuning).wrap(load(folder, dtype), None)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.requires_grad
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    model.config.use_cache = False
    return model


def save(model, out):
    out.mkdir()
    backend(FullTuning).save(model, out)
    return out


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_is_saved_is_what_was_trained(tiny_folder, tmp_path, tied, dtype):
    folder = tiny_folder(tied=tied)
    model, method = train(folder, dtype), backend(FullTuning)
    saved = save(model, tmp_path / "saved")
    again = method.attach(load(folder, dtype, "infer"), saved)
    assert method.digest(again) == method.digest(model) != method.digest(load(folder, dtype))
    ids = torch.arange(3, 40)[None]
    expected = load(folder, dtype, "infer")
    with torch.no_grad():
        for served, trained in zip(expected.parameters(), model.parameters(), strict=True):
            served.copy_(trained)
    assert torch.equal(again(ids).logits, expected(ids).logits)
    assert method.count(model)[0] == method.count(model)[1] == sum(p.numel() for p in model.parameters())


def test_equal_weights_give_equal_bytes(tiny_folder, tmp_path):
    one, two = (save(train(tiny_folder()), tmp_path / name) for name in ("one", "two"))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644
        assert str(tiny_folder()).encode() not in path.read_bytes()
    assert json.loads((one / "config.json").read_text())["use_cache"] is True


def test_the_trainers_model_is_not_changed_by_saving_it(tiny_folder, tmp_path):
    model = train(tiny_folder())
    save(model, tmp_path / "saved")
    assert model.config.use_cache is False


def test_a_parent_is_continued(tiny_folder, tmp_path):
    model, method = train(tiny_folder()), backend(FullTuning)
    saved = save(model, tmp_path / "saved")
    continued = method.wrap(load(tiny_folder()), saved)
    assert method.digest(continued) == method.digest(model)
    assert all(p.requires_grad for p in continued.parameters())


def test_many_small_steps_add_up_on_a_base_in_bf16(tiny_folder, tmp_path):
    """Each is lost in bf16; together they are not, and what they come to is rounded once."""
    folder, moved = tiny_folder(tied=True), {}
    for dtype in ("fp32", "bf16"):
        method = FullTuning(FullTuning.Options(dtype=dtype))
        model = method.wrap(load(folder, "bf16"), None)
        before = method.digest(model)
        with torch.no_grad():
            for _ in range(50):
                for parameter in model.parameters():
                    parameter *= 1.001
        moved[dtype] = method.digest(model) != before
        assert (model.dtype == torch.float32) == (dtype == "fp32")
        (tmp_path / dtype).mkdir()
        method.save(model, tmp_path / dtype)
        tensors = load_file(tmp_path / dtype / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        assert "lm_head.weight" not in tensors
    assert moved == {"fp32": True, "bf16": False}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors.pop("model.norm.weight"),
        lambda tensors: tensors.update(other=torch.zeros(1)),
        lambda tensors: tensors.update({"model.norm.weight": torch.ones(65)}),
        lambda tensors: tensors["model.norm.weight"].fill_(float("nan")),
    ],
    ids=["one missing", "one too many", "another shape", "not a number"],
)
def test_weights_that_do_not_fit_are_refused_by_name(tiny_folder, tmp_path, spoil):
    saved = save(train(tiny_folder()), tmp_path / "saved")
    tensors = load_file(saved / "model.safetensors")
    spoil(tensors)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(Refused, match=r"`model\.norm\.weight`|`other`"):
        backend(FullTuning).attach(load(tiny_folder(), use="infer"), saved)


def test_a_packed_base_is_not_enough(tiny_folder):
    (need,) = backend(FullTuning).needs()
    assert need.cap in backend(NoQuantizer).offers()
    assert need.cap is Cap.FULLY_TRAINABLE
    assert Cap.ADAPTS not in backend(FullTuning).offers()


def test_the_export_is_a_model_by_itself(tiny_folder, tmp_path):
    """Plain transformers opens it, and it answers as the trained weights on their base do."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, method, loader, none = tiny_folder(), backend(FullTuning), backend(TransformersLoader), backend(NoQuantizer)
    model = train(folder)
    saved = save(model, tmp_path / "saved")
    trained = Trained(saved, folder, "id", "Tiny", "transformers", loader.tokenizer(folder), adapts=False)
    out = tmp_path / "out"
    out.mkdir()
    form = backend(AdapterExporter).export(trained, out)
    assert (form.engine, form.attach) == ("transformers", False)
    engine = backend(TransformersEngine)
    with engine.open(Served(folder, loader, none, "fp32", method, saved)) as subject:
        assert subject.identity == method.digest(model)
        expected = [answer.ids for answer in subject.complete(PROMPTS, 8)]
    with engine.open(Served(out, loader, none, "fp32")) as subject:
        assert [answer.ids for answer in subject.complete(PROMPTS, 8)] == expected
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ids = tokenizer.apply_chat_template(PROMPTS[0], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = plain.generate(**ids, max_new_tokens=8, do_sample=False)
    assert made[0, ids["input_ids"].shape[1] :].tolist() == expected[0]


def test_merging_gives_the_trained_model_itself(tiny_folder, tmp_path):
    method = backend(FullTuning)
    assert Cap.MERGES in method.offers()
    model = train(tiny_folder())
    saved = save(model, tmp_path / "saved")
    out = tmp_path / "out"
    out.mkdir()
    whole = Whole(backend(TransformersLoader), backend(NoQuantizer), method, "fp32", identity_of)
    whole.write(tiny_folder(), identity_of(tiny_folder()), saved, out, "fp32")
    assert {path.name for path in out.iterdir()} == {path.name for path in tiny_folder().iterdir()}
    for path in out.iterdir():
        source = saved if (saved / path.name).is_file() else tiny_folder()
        assert path.read_bytes() == (source / path.name).read_bytes()
        assert path.stat().st_mode & 0o777 == 0o644


def test_an_adapter_is_no_parent_of_a_whole_model(tiny_folder, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadOption, match="is an adapter") as error:
        backend(FullTuning).wrap(load(tiny_folder()), tmp_path)
    assert error.value.finding.field == "parent"
