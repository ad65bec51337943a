"""What each quantizer makes of a base: bytes of its weights, and its perplexity.

python tests/bench/quantized.py BASE TEXTS [--texts N]

BASE is a model folder, TEXTS PubMedQA's `ori_pqal.json`; its first N abstracts are read, 512 tokens of each at most.
Prints a line of Markdown for each quantizer: perplexity asked as an evaluation asks, and as a training sees it. What
stays unquantized counts as bf16, and is multiplied in fp32, which every CPU is quick at.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.host import Host

KINDS: dict[str, dict[str, Any]] = {
    "`none`": {"kind": "none"},
    "`int8`": {"kind": "int8"},
    "`{kind: int8, threshold: 0}`": {"kind": "int8", "threshold": 0.0},
    "`{kind: nf4, double_quant: false}`": {"kind": "nf4", "double_quant": False},
    "`nf4`": {"kind": "nf4"},
    "`{kind: fp4, double_quant: false}`": {"kind": "fp4", "double_quant": False},
    "`fp4`": {"kind": "fp4"},
}


def held(model: Any) -> int:
    """Bytes of all tensors of a model, scales among them; those that share memory count once."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values() if hasattr(tensor, "nbytes")}
    return sum(tensors.values())


def perplexity(model: Any, texts: list[Any]) -> float:
    """Over all tokens but each text's first."""
    import torch

    lost = count = 0.0
    with torch.no_grad():
        for ids in texts:
            lost += model(input_ids=ids, labels=ids).loss.item() * (ids.numel() - 1)
            count += ids.numel() - 1
    return math.exp(lost / count)


def lines(base: Path, abstracts: list[str]) -> Iterator[str]:
    """One line for each quantizer."""
    import torch

    host = Host()
    loader = host.make("loader", {"kind": "transformers"})
    tokenizer = loader.tokenizer(base)
    texts = [torch.tensor([tokenizer.encode(text)[:512]]) for text in abstracts]
    for name, raw in KINDS.items():
        size = held(loader.model(base, host.make("quantizer", raw), "bf16", "infer"))
        quantizer = host.make("quantizer", {**raw, "compute_dtype": "fp32"} if "4" in raw["kind"] else raw)
        asked, seen = (perplexity(loader.model(base, quantizer, "fp32", use), texts) for use in ("infer", "train"))
        yield f"| {name} | {size / 1e6:.0f} MB | {asked:.2f} | {seen:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--texts", dest="count", type=int, default=12)
    asked = parser.parse_args()
    rows = list(json.loads(asked.texts.read_text("utf-8")).values())[: asked.count]
    for line in lines(asked.base, [" ".join(row["CONTEXTS"]) for row in rows]):
        print(line, flush=True)


if __name__ == "__main__":
    main()
