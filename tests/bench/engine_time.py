"""How much faster the engine `vllm` evaluates than batched `generate`: rows a second, each side the same prompts.

    python tests/bench/engine_time.py MODEL ADAPTER BANKING77_FOLDER [--rows 64]

A prompt lists the 77 labels of Banking77 and asks for a message's: about 600 tokens, of which 20 are its own. Sides:
transformers and peft with batches of 32 padded on the left, the engine `transformers`, the engine `vllm`. It tells
whether the answers are the same tokens, and the start of the engines apart.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunewright.host import Host
from tunewright.parts.engine import Served

LIMIT, BATCH = 8, 32


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--dtype", default="fp32")
    given = parser.parse_args()
    prompts = questions(given.data / "test.csv", given.rows)
    product = _probe()
    print(f"threads {torch.get_num_threads()}, fp32 1024³ {product:.2f} TF/s, {len(prompts)} rows, {LIMIT} new tokens")
    sides = {"batched generate": lambda: plain(given.model, given.adapter, prompts, given.dtype)}
    for kind in ("transformers", "vllm"):
        sides[f"engine {kind}"] = lambda kind=kind: engine(kind, given.model, given.adapter, prompts, given.dtype)
    answers = {}
    for name, run in sides.items():
        start, seconds, answers[name] = run()
        equal = sum(one == other for one, other in zip(answers[name], answers["batched generate"], strict=True))
        rate = len(prompts) / seconds
        print(
            f"{name:18}{rate:8.2f} rows/s   start {start:5.1f} s   {equal} of {len(prompts)} answers equal", flush=True
        )


def questions(file: Path, count: int) -> list[list[dict[str, str]]]:
    """Conversations over rows that lie evenly in the file, which is sorted by label."""
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    labels = sorted({row["category"] for row in rows})
    system = "Name the intent of the customer's message. Answer with one of: " + ", ".join(labels) + "."
    chosen = rows[:: max(1, len(rows) // count)][:count]
    return [[{"role": "system", "content": system}, {"role": "user", "content": row["text"]}] for row in chosen]


def plain(model: Path, adapter: Path, prompts: list[list[dict[str, str]]], dtype: str) -> tuple[float, float, list]:
    """As a script with the libraries alone does it."""
    begun = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=kind), adapter).eval()
    start = time.perf_counter() - begun
    begun, found = time.perf_counter(), []
    for place in range(0, len(prompts), BATCH):
        texts = [
            tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True)
            for p in prompts[place : place + BATCH]
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            made = tuned.generate(**batch, max_new_tokens=LIMIT, do_sample=False)
        for row in made[:, batch["input_ids"].shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            found.append(row[:end])
    return start, time.perf_counter() - begun, found


def engine(kind: str, model: Path, adapter: Path, prompts: list, dtype: str) -> tuple[float, float, list]:
    """Through the contract."""
    host = Host()
    loader = host.make("loader", {"kind": "transformers"})
    method = host.make("adapter", {"kind": "lora", "r": 16, "alpha": 32})
    served = Served(model, loader, host.make("quantizer", {"kind": "none"}), dtype, method, adapter)
    begun = time.perf_counter()
    with host.make("engine", {"kind": kind}).open(served) as subject:
        start = time.perf_counter() - begun
        begun = time.perf_counter()
        answers = subject.complete(prompts, LIMIT)
        return start, time.perf_counter() - begun, [answer.ids for answer in answers]


def _probe() -> float:
    first, second = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 1e9
    for _ in range(5):
        begun = time.perf_counter()
        first @ second
        best = min(best, time.perf_counter() - begun)
    return 2 * 1024**3 / best / 1e12


if __name__ == "__main__":
    main()
