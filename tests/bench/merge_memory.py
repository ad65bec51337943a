"""How much memory a merge takes beyond what importing its libraries takes, on a random base in many files.

python tests/bench/merge_memory.py [--gigabytes N] [--shards N] [--method lora|dora] [--dtype fp32]
    [--quantizer nf4] [--folder DIR]

At most the largest file and 500 MB more, however large the base is. A process of its own merges, and tells the most
memory that it held; another only imports. Over a quantizer it is merged into the weights that this leaves.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ALLOWED = 500 << 20  # bytes beyond the imports and the largest file
WIDTH, INNER, WORDS = 2048, 8192, 32000
LAYER = 4 * WIDTH * WIDTH + 3 * WIDTH * INNER  # numbers of a layer's seven projections


def make_base(folder: Path, gigabytes: float, shards: int) -> Path:
    """A random Llama in bf16 of about this size, in this many files of about one size; gives its folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    layers = max(1, round((gigabytes * (1 << 30) / 2 - WORDS * WIDTH) / LAYER))
    config = AutoConfig.for_model(
        "llama", vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=layers,
        num_attention_heads=16, num_key_value_heads=16, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    names = [name for name in outline.state_dict() if name != "lm_head.weight"]
    where: dict[str, str] = {}
    for number in range(shards):
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        made = {name: torch.randn(outline.state_dict()[name].shape, dtype=torch.bfloat16) * 0.02 for name in part}
        save_file(made, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def backends(method: str, quantizer: str = "none") -> tuple[Any, Any]:
    """(what merges, the adapter's method), its libraries imported."""
    import peft  # noqa: F401
    import torch  # noqa: F401

    from tunewright.host import Host
    from tunewright.parts.whole import Whole
    from tunewright.pipeline.forms import identity_of

    host = Host()
    loader = host.make("loader", {"kind": "transformers"})
    loader.device()
    adapter = host.make("adapter", {"kind": "lora", "r": 16, "alpha": 32, "dora": method == "dora"})
    return Whole(loader, host.make("quantizer", {"kind": quantizer}), adapter, "bf16", identity_of), adapter


def make_adapter(base: Path, out: Path, method: str) -> None:
    """A random adapter on the base's projections, saved as a training saves it."""
    import torch

    whole, adapter = backends(method)
    model = whole.model(base).outline
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:  # of no size: only their shapes count
                empty = torch.ones((), dtype=torch.bfloat16).expand(parameter.shape)
                module._parameters[name] = torch.nn.Parameter(empty, requires_grad=False)
    wrapped = adapter.wrap(model, None)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.02)
    out.mkdir()
    adapter.save(wrapped, out)


def merge(base: Path, saved: Path, out: Path, method: str, dtype: str, quantizer: str) -> None:
    """Merge, and print the bytes that this process held before and at most, and the seconds."""
    whole, _ = backends(method, quantizer)
    before, start = peak(), time.perf_counter()
    whole.write(base, whole.identify(base), saved, out, dtype, whole.trained_on)
    print(json.dumps({"baseline": before, "peak": peak(), "seconds": time.perf_counter() - start}))


def peak() -> int:
    """Bytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def measure(
    folder: Path, gigabytes: float, shards: int, method: str, dtype: str, quantizer: str = "none"
) -> dict[str, float]:
    """Bytes: `baseline`, `shard` (the largest file), `peak`, `size`; and `seconds`. All in processes of their own."""
    base, saved, out = folder / "base", folder / "saved", folder / "out"
    _apart("make", str(base), str(saved), method, str(gigabytes), str(shards))
    out.mkdir()
    found: dict[str, float] = json.loads(_apart("merge", str(base), str(saved), str(out), method, dtype, quantizer))
    sizes = [path.stat().st_size for path in base.glob("*.safetensors")]
    return {**found, "shard": max(sizes), "size": sum(sizes)}


def _apart(*words: str) -> str:
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    return (done.stdout.splitlines() or [""])[-1]


def main(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(Path(folder), given.gigabytes, given.shards, given.method, given.dtype, given.quantizer)
    beyond = found["peak"] - found["baseline"]
    allowed = found["shard"] + ALLOWED
    for name, value in (("base", found["size"]), ("largest file", found["shard"]), ("imports", found["baseline"]),
                        ("peak", found["peak"]), ("beyond the imports", beyond)):  # fmt: skip
        print(f"{name:<24} {value / 1e6:7.0f} MB")
    what = f"{given.method} on {given.quantizer}, to {given.dtype}, {found['seconds']:.0f} s"
    print(f"{'allowed':<24} {allowed / 1e6:7.0f} MB   {what}")
    return 0 if beyond <= allowed else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        made = make_base(Path(sys.argv[2]), float(sys.argv[5]), int(sys.argv[6]))
        make_adapter(made, Path(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] == ["merge"]:
        merge(*(Path(word) for word in sys.argv[2:5]), *sys.argv[5:])
    else:
        arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
        arguments.add_argument("--gigabytes", type=float, default=4.0, help="size of the base (default: 4)")
        arguments.add_argument("--shards", type=int, default=8, help="files of the base (default: 8)")
        arguments.add_argument("--method", choices=("lora", "dora"), default="lora")
        arguments.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16")
        arguments.add_argument("--quantizer", choices=("none", "nf4", "fp4", "int8"), default="none")
        arguments.add_argument("--folder", help="where the base is written, and taken away again")
        sys.exit(main(arguments.parse_args()))
