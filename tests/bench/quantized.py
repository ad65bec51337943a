"""What each quantizer makes of a base: bytes of its weights, and its perplexity.

python tests/bench/quantized.py BASE TEXTS [--texts N] [--rows N] [--kinds KIND…]

BASE is a model folder, TEXTS PubMedQA's `ori_pqal.json`; its first N abstracts are read, 512 tokens of each at most.
Prints a line of Markdown for each quantizer: perplexity asked as an evaluation asks, and as a training sees it, and the
CPU seconds that its base took to make. What stays unquantized counts as bf16, and is multiplied in fp32, which every
CPU is quick at; one line multiplies in bf16 all the same. What is calibrated is so by N other abstracts, 200 tokens of
each; without the extra `gptq`, name the other kinds.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.host import Host
from tunewright.parts import Cap
from tunewright.parts.adapter import ModelDir
from tunewright.parts.whole import copy_beside

KINDS: dict[str, dict[str, Any]] = {
    "`none`": {"kind": "none"},
    "`none`, in bf16": {"kind": "none"},
    "`int8`": {"kind": "int8"},
    "`{kind: int8, threshold: 0}`": {"kind": "int8", "threshold": 0.0},
    "`{kind: nf4, double_quant: false}`": {"kind": "nf4", "double_quant": False},
    "`nf4`": {"kind": "nf4"},
    "`{kind: fp4, double_quant: false}`": {"kind": "fp4", "double_quant": False},
    "`fp4`": {"kind": "fp4"},
    "`gptq`": {"kind": "gptq"},
    "`{kind: gptq, act_order: true}`": {"kind": "gptq", "act_order": True},
    "`awq`": {"kind": "awq"},
}
CALIBRATED = 200  # tokens of a row


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


def lines(base: Path, abstracts: list[str], others: list[str], kinds: list[str]) -> Iterator[str]:
    """One line for each quantizer."""
    import torch

    host = Host()
    loader = host.make("loader", {"kind": "transformers"})
    tokenizer = loader.tokenizer(base)
    texts = [torch.tensor([tokenizer.encode(text)[:512]]) for text in abstracts]
    rows = [tokenizer.encode(text)[:CALIBRATED] for text in others]
    for name, raw in KINDS.items():
        if kinds and raw["kind"] not in kinds:
            continue
        with tempfile.TemporaryDirectory() as made:
            folder, seconds = packed(base, host.make("quantizer", raw), rows, Path(made))
            size = held(loader.model(folder, host.make("quantizer", raw), "bf16", "infer"))
            quantizer = host.make("quantizer", {**raw, "compute_dtype": "fp32"} if "4" in raw["kind"] else raw)
            dtype = "bf16" if "bf16" in name else "fp32"
            asked, seen = (perplexity(loader.model(folder, quantizer, dtype, use), texts) for use in ("infer", "train"))
        yield f"| {name} | {size / 1e6:.0f} MB | {asked:.2f} | {seen:.2f} | {seconds or '–'} |"


def packed(base: Path, quantizer: Any, rows: list[list[int]], out: Path) -> tuple[Path, int]:
    """(the folder that the quantizer opens, CPU seconds that making it took): the base's own, unless it makes one."""
    if Cap.MAKES not in quantizer.offers():
        return base, 0
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    quantizer.make(ModelDir(base, None, "fp32"), lambda count: rows, out)
    copy_beside(base, out)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return out, round(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--texts", dest="count", type=int, default=12)
    parser.add_argument("--rows", type=int, default=16)
    asked = parser.parse_args()
    found = list(json.loads(asked.texts.read_text("utf-8")).values())[: asked.count + asked.rows]
    abstracts = [" ".join(row["CONTEXTS"]) for row in found]
    for line in lines(asked.base, abstracts[: asked.count], abstracts[asked.count :], asked.kinds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
