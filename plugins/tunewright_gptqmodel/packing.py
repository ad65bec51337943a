"""A base is packed by gptqmodel, in a process of its own: `python -m tunewright_gptqmodel.packing order.json`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.digest import canonical_json
from tunewright.errors import WorkFailed
from tunewright.parts.base import BadOption
from tunewright_gptqmodel.library import environment

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""The spec's names of types, and torch's."""
KEPT = ("*.safetensors", "*.safetensors.index.json")  # what else gptqmodel writes holds paths, or how long it took
CONFIG = "config.json"
NOTED = ("meta", "offload_to_disk", "pack_impl")
SAID = 12  # lines of a failed process that are shown


@dataclass(frozen=True)
class Asked:
    """How a base is to be packed: gptqmodel's arguments, and the type that it computes in, by the spec's name."""

    method: str
    arguments: Mapping[str, Any]
    skip: Sequence[str]
    dtype: str


def pack(base: Path, asked: Asked, rows: Sequence[Sequence[int]], out: Path) -> None:
    """Write config.json and the packed weights of `base` into the folder `out`.

    Raises `BadOption` on `skip` where nothing is left to pack, `WorkFailed` with the last words of the process.
    """
    base, out = base.absolute(), out.absolute()  # the process works in a folder of its own
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=out) as scratch:  # beside the target: moved, not copied
        made, order = Path(scratch) / "made", Path(scratch) / "order.json"
        order.write_text(json.dumps({**asdict(asked), "base": str(base), "made": str(made), "rows": rows}), "utf-8")
        command = [sys.executable, "-m", "tunewright_gptqmodel.packing", str(order)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=scratch, env={**os.environ, **environment()}
        )
        if done.returncode != 0:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-SAID:])
            raise WorkFailed(f"gptqmodel could not pack the base by {asked.method}:\n{said}")
        layers = read_layers(made)
        if not layers.packed:
            raise BadOption("unknown-module", "with these modules skipped, no layer is left to quantize", "skip")
        config = config_of(json.loads((made / CONFIG).read_text("utf-8")), asked, layers)
        (out / CONFIG).write_bytes(canonical_json(config))
        for file in sorted(found for pattern in KEPT for found in made.glob(pattern)):
            file.chmod(0o644)
            file.replace(out / file.name)


def pattern(name: str) -> str:
    """The expression of the modules that a name of `skip` stands for: the named ones, and those within them."""
    return rf"^(.*\.)?{re.escape(name)}(\..*)?$"


class Layers(NamedTuple):
    """The modules of a packed model that hold a matrix, by name: those that were packed, and those left whole."""

    packed: list[str]
    whole: list[str]


def read_layers(made: Path) -> Layers:
    """What was packed in the folder that gptqmodel wrote, as its tensors say."""
    from safetensors import safe_open

    packed, whole = [], []
    for file in sorted(made.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                module, _, tensor = name.rpartition(".")
                if tensor == "qweight":
                    packed.append(module)
                elif tensor == "weight" and len(opened.get_slice(name).get_shape()) > 1:  # a norm has a vector
                    whole.append(module)
    return Layers(sorted(packed), sorted(whole))


def config_of(config: dict[str, Any], asked: Asked, layers: Layers) -> dict[str, Any]:
    """The base's config.json as transformers and vLLM read it. What gptqmodel noted of its own run is left out.

    transformers does not read `dynamic`, in which gptqmodel names what it skipped: it would look for packed weights
    there. It is told the whole names of what was left: a name it knows by its beginning or its end alone, so that what
    stands in `skip`, as `mlp`, would be no layer to it.
    """
    found = {name: value for name, value in config["quantization_config"].items() if name not in NOTED}
    versions = config["quantization_config"].get("meta", {}).get("quantizer")
    found |= {"meta": {"quantizer": versions}} if versions else {}
    if asked.skip and asked.method == "awq":
        found["modules_to_not_convert"] = sorted({"lm_head", *layers.whole})  # a tied head is not stored
    elif asked.skip:
        found["modules_in_block_to_quantize"] = [layers.packed]
    return {**config, "quantization_config": found}


def main(order: Path) -> None:
    """The process's part: nothing here is imported by the one that asks."""
    asked = json.loads(order.read_text("utf-8"))
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
    from gptqmodel.quantization.config import AWQConfig, GPTQConfig

    # its AWQ layer refuses weights in fp32 when it is made, and packs them in fp16 all the same
    if torch.float32 not in AwqTorchLinear.SUPPORTS_DTYPES:
        AwqTorchLinear.SUPPORTS_DTYPES = [*AwqTorchLinear.SUPPORTS_DTYPES, torch.float32]
    torch.manual_seed(0)  # nothing is drawn that is known of; what is, is the same every time
    arguments = dict(asked["arguments"])
    if asked["method"] == "awq":
        arguments = {"sym": not arguments.pop("zero_point"), **arguments}
    made = {"awq": AWQConfig, "gptq": GPTQConfig}[asked["method"]]
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    # by itself it compiles C++ for minutes, into a folder of the user's, to save the last seconds on a CPU
    packer = {"pack_impl": "original"} if device == "cpu" else {}
    config = made(
        **arguments,
        **packer,
        dynamic={f"-:{pattern(name)}": {} for name in asked["skip"]} or None,
        offload_to_disk=False,
    )
    model = GPTQModel.load(
        asked["base"], config, device=device, dtype=getattr(torch, DTYPES[asked["dtype"]]), trust_remote_code=False
    )
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in asked["rows"]]
    model.quantize(rows, batch_size=1, backend=BACKEND.AUTO, calibration_data_min_length=1)
    model.save(asked["made"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
