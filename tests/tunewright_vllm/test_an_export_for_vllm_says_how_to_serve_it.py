"""`vllm`: the adapter as it is, and a script that starts vLLM with it; nothing of a spec becomes a command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunewright.errors import Refused, WorkFailed
from tunewright.host import Host
from tunewright.parts.exporter import Trained
from tunewright_transformers.export import AdapterExporter
from tunewright_vllm.export import RANKS, SCRIPT


def export(tmp_path: Path, *, base_name="org/base", adapts=True, rank=16, pattern=None, **options) -> Path:
    saved, base, out = (tmp_path / name for name in ("saved", "base", "out"))
    for folder in (saved, base, out):
        folder.mkdir()
    (base / "tokenizer.json").write_text("{}")
    if adapts:
        config = {"peft_type": "LORA", "r": rank, "rank_pattern": pattern or {}}
        (saved / "adapter_config.json").write_text(json.dumps(config))
        (saved / "adapter_model.safetensors").write_bytes(b"weights")
    else:
        (saved / "model.safetensors").write_bytes(b"weights")
    exporter = Host().make("exporter", {"kind": "vllm", **options})
    trained = Trained(saved, base, "id", base_name, "transformers", SimpleNamespace(template="T"), adapts)
    form = exporter.export(trained, out)
    assert form.attach is adapts
    return out


def started(out: Path, *arguments: str, **environment: str) -> list[str]:
    """What vLLM is called with, by a stand-in that prints its arguments."""
    tools = out.parent / "tools"
    tools.mkdir()
    (tools / "vllm").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    (tools / "vllm").chmod(0o755)
    script = ["sh", str(out / SCRIPT), *arguments]
    environment = {"PATH": f"{tools}:/usr/bin:/bin", **environment}
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_script_serves_the_adapter_beside_its_base_on_this_machine_alone(tmp_path):
    out = export(tmp_path, served_name="acme")
    assert started(out) == [
        "serve", "org/base", "--host", "127.0.0.1", "--enable-lora", "--max-lora-rank", "16", "--lora-modules",
        f"acme={out}",
    ]  # fmt: skip


def test_the_base_may_lie_in_a_folder_and_further_arguments_go_to_vllm(tmp_path):
    words = started(export(tmp_path), "--port", "9000", BASE="/models/my base")
    assert words[1] == "/models/my base"
    assert words[-2:] == ["--port", "9000"]


@pytest.mark.parametrize("name", ["$(touch canary)", "`touch canary`", "a'; touch canary; '", 'a"b', "a b", "}x${y"])
def test_a_name_is_never_a_command(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert started(export(tmp_path, base_name=name))[1] == name
    assert not Path("canary").exists()


def test_a_fully_tuned_model_is_served_by_itself(tmp_path):
    out = export(tmp_path, adapts=False)
    assert started(out) == ["serve", str(out), "--host", "127.0.0.1", "--served-model-name", "tuned"]


@pytest.mark.parametrize(
    ("rank", "pattern", "bound"), [(8, {}, 8), (9, {}, 16), (4, {"q_proj": 40}, 64), (512, {}, 512)]
)
def test_the_bound_is_the_least_that_vllm_knows_and_holds_every_rank(tmp_path, rank, pattern, bound):
    words = started(export(tmp_path, rank=rank, pattern=pattern))
    assert words[words.index("--max-lora-rank") + 1] == str(bound)


def test_a_rank_that_vllm_does_not_serve_is_refused(tmp_path):
    with pytest.raises(WorkFailed, match="rank 513"):
        export(tmp_path, rank=RANKS[-1] + 1)


def test_an_adapter_without_a_config_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(AdapterExporter, "export", lambda self, trained, out: None)
    with pytest.raises(Refused, match=r"has no adapter_config\.json: vLLM loads no other adapter"):
        export(tmp_path)


def test_the_adapter_itself_is_the_plain_export(tmp_path):
    out = export(tmp_path)
    assert (out / "adapter_model.safetensors").read_bytes() == b"weights"
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"
    assert (out / "chat_template.jinja").read_text() == "T"
