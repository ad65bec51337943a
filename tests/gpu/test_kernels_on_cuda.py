"""The kernels that a CUDA device is given: what they make of a batch is what TRL makes of it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_score_and_learn_as_trl(dtype: torch.dtype) -> None:
    """Batches of other lengths too: what was compiled on the trial's trees serves them."""
    from tunewright_trl.fused import install

    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    config = LlamaConfig(**shape, num_attention_heads=8, num_key_value_heads=2, initializer_range=0.1)
    model = LlamaForCausalLM(config).to("cuda", dtype).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    near = 1e-3 if dtype == torch.float32 else 5e-2
    batches = [torch.randint(3, 97, (rows, 300), device="cuda") for rows in (3, 8, 2)]
    for ids in batches:
        ids[:, :200] = ids[0, :200]

    def scored() -> list[torch.Tensor]:
        found = []
        for ids in batches:
            model.zero_grad()
            out = model(input_ids=ids, labels=ids, fused_lm_head=True, use_cache=False)
            out.loss.backward()
            found += [out.log_probs.detach(), torch.cat([one.grad.flatten() for one in model.parameters()])]
        return found

    theirs = scored()
    fused = install(model, unshared="", longest=300)
    ours = scored()
    fused.uninstall()
    assert (fused.attention, fused.not_flex) == ("flex", "")
    assert (fused.by_liger > 0) == (find_spec("liger_kernel") is not None), fused.not_liger
    assert fused.computed < fused.given
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).float().norm() / other.float().norm()) < near
