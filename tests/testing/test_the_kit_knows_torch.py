"""Lies that only show on tensors: what is frozen, what carries gradients, what answers after it was saved."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tunewright.parts import Cap
from tunewright.testing import NonConforming, check, contract
from tunewright_peft.lora import Lora
from tunewright_transformers.full import FullTuning
from tunewright_transformers.unquantized import NoQuantizer
from tunewright_trl.sft import Sft


@pytest.fixture(autouse=True)
def this_module_may_import_torch(monkeypatch):
    """A plugin's must not."""
    monkeypatch.setattr(contract, "check_import", lambda *told: None)


def says(backend, folder, code, words, **options):
    """The kit says this, by this code and no other."""
    with pytest.raises(NonConforming) as error:
        check(backend, options, folder=folder)
    assert error.value.codes == {code}, str(error.value)
    assert words in str(error.value)


class Freezes(NoQuantizer):
    """Says that the base's own weights can be trained."""

    def prepare(self, model, use):
        model.requires_grad_(False)


class RepacksWhenAsked(NoQuantizer):
    """As bitsandbytes does on some CPUs: the first forward in eval mode changes what later gradients come from."""

    def offers(self):
        return frozenset({Cap.TRAINABLE})

    def prepare(self, model, use):
        layer = model.model.layers[0].mlp.up_proj

        def repack(module, inputs, output):
            if not module.training:
                module.weight.data = module.weight.data * 1.5

        layer.register_forward_hook(repack)


class Deaf(NoQuantizer):
    """No gradient passes."""

    def offers(self):
        return frozenset({Cap.TRAINABLE})

    def prepare(self, model, use):
        model.model.layers[0].register_forward_hook(lambda module, inputs, output: output.detach())


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (Freezes, "it offers FULLY_TRAINABLE, and `model.embed_tokens.weight` cannot be trained"),
        (RepacksWhenAsked, "the gradient is another after the model was asked"),
        (RepacksWhenAsked, "asking the model changes its weights"),
        (Deaf, "no finite gradient passes through the base"),
    ],
)
def test_a_quantizer_that_claims_more_than_it_can(backend, words, tmp_path):
    says(backend, tmp_path, "capability-lies", words)


class TellsHalf(NoQuantizer):
    """A forecast that goes by it runs out of memory."""

    def weight_bytes(self, shape, dtype):
        return super().weight_bytes(shape, dtype) // 2


class TellsOneLayer(Lora):
    def trainable(self, shape, dtype, packed):
        told = super().trainable(shape, dtype, packed)
        return told and told._replace(tensors=dict.fromkeys(told.tensors, 1))


def test_bytes_that_are_not_held_are_found(tmp_path):
    says(TellsHalf, tmp_path, "memory-untrue", "of a base whose weights take")
    says(TellsOneLayer, tmp_path, "memory-untrue", "bytes of what is trained, which are")


class ChangesTheBase(Lora):
    def wrap(self, model, parent):
        wrapped = super().wrap(model, parent)
        wrapped.get_input_embeddings().weight.data *= 1.001
        return wrapped


class SavesAll(FullTuning):
    def offers(self):
        return frozenset({Cap.ADAPTS})

    def count(self, model):
        return 1, 2


class LosesItsScale(Lora):
    """The tensors are all there, and so is the digest; only the answers tell."""

    def attach(self, model, saved):
        attached = super().attach(model, saved)
        for module in attached.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling["default"] = 1.0
        return attached


class AttachesToAnotherBase(Lora):
    def attach(self, model, saved):
        attached = super().attach(model, saved)
        attached.get_input_embeddings().weight.data *= 1.001
        return attached


@pytest.mark.parametrize(
    ("backend", "code", "words", "options"),
    [
        (ChangesTheBase, "capability-lies", "the base's own tensors changed or can be trained", {"r": 2}),
        (SavesAll, "capability-lies", "save a part alone", {}),
        (AttachesToAnotherBase, "capability-lies", "`attach` changes the base's own tensors", {"r": 2}),
        (LosesItsScale, "attach-differs", "answers otherwise than the model that was saved", {"r": 2}),
    ],
)
def test_an_adapter_that_is_not_what_it_says(backend, code, words, options, tmp_path):
    says(backend, tmp_path, code, words, **options)


class ChangesTheFrozen(Sft):
    def train(self, job):
        outcome = super().train(job)
        job.model.get_input_embeddings().weight.data += 0.01
        return outcome


class DropsTheClipping(Sft):
    def _config(self, job):
        config = super()._config(job)
        config.max_grad_norm = 0.5
        return config

    def train(self, job):
        outcome = super().train(job)
        return outcome.__class__(**{**vars(outcome), "substituted": ()})


@pytest.mark.parametrize(
    ("backend", "code", "words"),
    [
        (ChangesTheFrozen, "base-changed", "it changes the base, which the adapter method froze"),
        (DropsTheClipping, "argument-lost", "`max_grad_norm` should be 1.0, and `observed` has 0.5"),
    ],
)
def test_a_trainer_that_does_otherwise_than_it_is_told(backend, code, words, tmp_path):
    # a rate so high that later weights are worse: which are kept, and when it ends, then shows
    loop = {"batch_size": 4, "learning_rate": 1.0, "epochs": 2, "eval_every": 1, "schedule": "constant"}
    says(backend, tmp_path, code, words, **loop)


class LeavesDoubles(NoQuantizer):
    def prepare(self, model, use):
        torch.set_default_dtype(torch.float64)


class LeavesNoGradients(NoQuantizer):
    def describe(self):
        torch.set_grad_enabled(False)
        return {}


class DrawsNumbers(NoQuantizer):
    def prepare(self, model, use):
        torch.rand(1)


@pytest.mark.parametrize(
    ("backend", "what"),
    [
        (LeavesDoubles, "torch's default dtype"),
        (LeavesNoGradients, "torch's gradient mode"),
        (DrawsNumbers, "torch's generator"),
    ],
)
def test_torchs_own_state_is_left_as_it_was(backend, what, tmp_path):
    with pytest.raises(NonConforming, match=f"state-left-behind: it changes {what}"):
        check(backend, folder=tmp_path)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_importing_the_kit_imports_nothing_heavy():
    script = "import sys, tunewright.testing, tunewright.testing.trial, tunewright.testing.tiny\n"
    script += "print([name for name in ('torch', 'transformers', 'numpy', 'peft') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
