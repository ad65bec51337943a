"""A small package to hand over, and safetensors made by hand so that they can also be made wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.handoff import verify
from tunewright.handoff.contents import PackageContents
from tunewright.parts.gate import Score, Verdict

Tensors = Mapping[str, tuple[str, list[int], bytes]]


def safetensors(tensors: Tensors) -> bytes:
    """A safetensors file of {name: (dtype, shape, bytes)}, in the order given."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    return with_header(json.dumps(header).encode(), b"".join(data for _, _, data in tensors.values()))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def floats(*numbers: float) -> tuple[str, list[int], bytes]:
    return ("F32", [len(numbers)], struct.pack(f"<{len(numbers)}f", *numbers))


ADAPTER = {
    "base.layers.0.q_proj.lora_A.weight": floats(0.25, -1.5, 3e38, 0.0),
    "base.layers.0.q_proj.lora_B.weight": ("BF16", [2, 2], bytes.fromhex("803f0040c03f0000")),
}


def model_folder(folder: Path, tensors: Tensors | None = None) -> Path:
    """A base: weights, tokenizer and template, of a few bytes each."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(tensors or {"w": floats(1, 2), "v": floats(3)}))
    (folder / "tokenizer.json").write_text('{"model": {}}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def contents(folder: Path, **changes: Any) -> PackageContents:
    """What a run would hand over; its files are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 2}).encode(),
        "adapter_model.safetensors": safetensors(ADAPTER),
        "tokenizer.json": b'{"model": {}}',
        "chat_template.jinja": "{{ messages }} ✓".encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    made = PackageContents(
        name="acme-support",
        version="1.0.0",
        license="Apache-2.0",
        base={"name": "org/tiny", "repo": "org/tiny", "identity": "ab" * 32, "dtype": "bfloat16", "revision": "c0ffee"},
        quantization={"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        adapter={"kind": "lora", "trainable": 4_884_480, "total": 139_399_488, "arguments": {"r": 16}},
        files={name: folder / name for name in files},
        texts={
            "spec.lock.yaml": "name: acme-support\n",
            "evals/heldout.jsonl": '{"id": "1", "answer": "yes"}\n',
            "prompts.json": "[]\n",
            "REPORT.html": "<!doctype html><title>r</title>",
        },
        scores={"heldout.exact_match": Score(100, 0.0, 0.91, 0.91, (0.85, 0.96), 1e-20)},
        gates=[Verdict("heldout.exact_match is at least 0.8", True, "it is 0.910 on 100 rows")],
        data={"rows": 320, "tokens": 36_480, "supervised": 2_048, "test_rows": 100},
        trainings=[training()],
        libraries={"peft": "0.21.2", "transformers": "5.24.0"},
        licences={"base": "Apache-2.0"},
    )
    return replace(made, **changes)


def training(name: str = "", **changes: Any) -> dict[str, Any]:
    """One training as a package tells of it."""
    made: dict[str, Any] = {
        "name": name,
        "trainer": "sft",
        "rows": 320,
        "tokens": 36_480,
        "supervised": 2_048,
        "sources": [{"name": "train.csv", "rows": 320, "set_aside": 2}],
        "steps": 80,
        "first_loss": 3.25,
        "last_loss": 0.151,
        "validation": [],
        "validation_rows": 0,
        "best_step": None,
        "substituted": [],
    }
    return {**made, **changes}


def reseal(folder: Path, **changes: Any) -> None:
    """What a forger does: list the files as they are now, with a seal that fits."""
    listed = {
        path.relative_to(folder).as_posix(): {"sha256": verify._sha_file(path), "size": path.stat().st_size}
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (verify.MANIFEST, verify.SEAL, verify.SIGNATURE)
    }
    manifest = {**json.loads((folder / verify.MANIFEST).read_text()), "files": listed, **changes}
    data = verify.manifest_bytes(manifest)
    (folder / verify.MANIFEST).write_bytes(data)
    (folder / verify.SEAL).write_bytes(verify.seal_bytes(data))
