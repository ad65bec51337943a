"""Evaluation's sides: the engine that a run asks by, and `generate` over padded batches with a `PeftModel`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.parts.engine import Served

LIMIT, BATCH = 24, 32
"""Most tokens of an answer; prompts of a batch of `generate`."""


class Asked(NamedTuple):
    """Seconds without those of loading, and the answers' token ids, terminators included."""

    seconds: float
    answers: list[list[int]]


def ours(base: Path, adapter: Path, prompts: Sequence[Any], dtype: str) -> Asked:
    """Through the engine's contract."""
    from bench.training.ours import ADAPTER, QUANTIZERS
    from tunewright.host import Host

    host = Host()
    served = Served(
        base,
        host.make("loader", {"kind": "transformers"}),
        host.make("quantizer", QUANTIZERS["none"]),
        dtype,
        host.make("adapter", ADAPTER),
        adapter,
    )
    with host.make("engine", {"kind": "transformers"}).open(served) as subject:
        subject.complete(prompts[:2], 2)  # what is made once is made now
        start = time.perf_counter()
        answers = subject.complete(prompts, LIMIT)
        return Asked(time.perf_counter() - start, [answer.ids for answer in answers])


def theirs(base: Path, adapter: Path, prompts: Sequence[Any], dtype: str) -> Asked:
    """As a script does it: templates, padding on the left, prompts of like length together."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bench.training.theirs import TYPES

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=TYPES[dtype], device_map={"": device})
    tuned = PeftModel.from_pretrained(model, adapter).eval()

    def ask(some: Sequence[Any], limit: int) -> list[list[int]]:
        texts = [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in some]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        with torch.no_grad():
            made = tuned.generate(**batch, max_new_tokens=limit, do_sample=False)
        return [_ended(row, tokenizer.eos_token_id) for row in made[:, batch["input_ids"].shape[1] :].tolist()]

    ask(prompts[:2], 2)
    start = time.perf_counter()
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place][-1]["content"]))
    answers: list[list[int]] = [[] for _ in prompts]
    for first in range(0, len(order), BATCH):
        places = order[first : first + BATCH]
        for place, answer in zip(places, ask([prompts[place] for place in places], LIMIT), strict=True):
            answers[place] = answer
    return Asked(time.perf_counter() - start, answers)


def _ended(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
