"""What the kit does with torch models: change them, hear them, compare their tensors. torch is imported when called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tunewright.digest import digest_file, digest_tensors
from tunewright.parts.loader import Tokenizer
from tunewright.testing.samples import ROWS, question

STEP = 0.1
"""Standard deviation of what is added to each trainable weight: enough that a wrong scale shows in the outputs."""


def nudge(model: Any) -> None:
    """Add noise to every trainable weight, the same noise every time."""
    import torch

    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters(), key=lambda named: named[0]):
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=draw) * STEP
                parameter.add_(noise.to(parameter.device, parameter.dtype))


def logits(model: Any, tokenizer: Tokenizer) -> list[float]:
    """The next token's logits after each of the kit's questions, in eval mode, one after the other."""
    import torch

    was = model.training
    model.eval()
    said: list[float] = []
    with torch.no_grad():
        for ids in _questions(tokenizer):
            said += model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1].float().tolist()
    model.train(was)
    return said


def input_gradient(model: Any, tokenizer: Tokenizer) -> list[float]:
    """The gradient of a question's loss towards the input embeddings: what an adapter below would be trained by."""
    import torch

    was = model.training
    model.train()
    ids = torch.tensor([_questions(tokenizer)[0]], device=model.device)
    inputs = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    loss = model(inputs_embeds=inputs, labels=ids).loss
    (found,) = torch.autograd.grad(loss, [inputs], allow_unused=True) if loss.requires_grad else (None,)
    model.train(was)
    return [] if found is None else found.float().flatten().tolist()


def tensors(model: Any) -> Counter[str]:
    """How often each tensor occurs among a model's parameters, whatever its name; empty for what is no torch model."""
    named = getattr(model, "named_parameters", None)
    return Counter(digest_tensors([("", parameter)]) for _, parameter in named()) if named else Counter()


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters and what else its state holds, as scales; what is one memory counts once. 0 for
    what is no torch model."""
    named = getattr(model, "state_dict", None)
    held = (
        {tensor.data_ptr(): tensor.nbytes for tensor in named().values() if hasattr(tensor, "nbytes")} if named else {}
    )
    return sum(held.values())


def trained_bytes(model: Any) -> int:
    """Bytes of the parameters that a training changes; 0 for what is no torch model."""
    named = getattr(model, "named_parameters", None)
    return sum(parameter.nbytes for _, parameter in named() if parameter.requires_grad) if named else 0


def frozen(model: Any) -> Counter[str]:
    """The same of those parameters that no training changes."""
    named = getattr(model, "named_parameters", None)
    chosen = [parameter for _, parameter in named() if not parameter.requires_grad] if named else []
    return Counter(digest_tensors([("", parameter)]) for parameter in chosen)


def content(folder: Path) -> dict[str, str]:
    """The digest of every file of a folder, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def _questions(tokenizer: Tokenizer) -> list[list[int]]:
    texts = [tokenizer.render(question(row), generation_prompt=True) for row in ROWS[:3]]
    return [tokenizer.encode(text) for text in texts]
