"""`vllm`: the adapter as it is, and a script that starts vLLM with it; nothing of a spec becomes a command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from handoff.packages import ADAPTER, contents, floats, model_folder, safetensors
from tunewright.errors import Refused, WorkFailed
from tunewright.handoff import verify
from tunewright.handoff.package import build
from tunewright.host import Host
from tunewright.parts.exporter import Trained
from tunewright.parts.model_source import Published
from tunewright_transformers.export import AdapterExporter
from tunewright_vllm import lora_cpu
from tunewright_vllm.export import RANKS
from tunewright_vllm.script import FILE, PATCH

TRAINED_IN = SimpleNamespace(dtype="bf16")
HUB = Published("org/base", "c0ffee")


def export(tmp_path: Path, *, adapts=True, rank=16, pattern=None, published=HUB, base_name="base", **options) -> Path:
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
    tokenizer = SimpleNamespace(template="T")
    trained = Trained(saved, base, "ab12", base_name, "transformers", tokenizer, adapts, TRAINED_IN)
    form = exporter.export(trained._replace(published=published), out)
    assert form.attach is adapts
    return out


PYTHON = f"""\
#!/bin/sh
[ "$1" = -I ] && exec {sys.executable} "$@"
[ "$1" = -c ] && {{ printf '%s\\n' "$HELD"; exit; }}
printf '%s\\n' "$PYTHONPATH" "$VLLM_PLUGINS" "$VLLM_TARGET_DEVICE" "$VLLM_CPU_OMP_THREADS_BIND"
for word in "$@"; do printf '%s\\n' "$word"; done
"""


class Ran(NamedTuple):
    """What vLLM is started with: what its environment says, and its arguments."""

    path: str
    plugins: str
    device: str
    bind: str
    words: list[str]

    def after(self, option: str) -> str:
        return self.words[self.words.index(option) + 1]


def run(out: Path, *arguments: str, held="vllm", **environment: str) -> subprocess.CompletedProcess[str]:
    """The script, by an interpreter that holds vLLM or does not, and prints what it is told."""
    tools = out.parents[2 if out.parent.name == "forms" else 0] / "tools"  # beside a package, not in it
    tools.mkdir(exist_ok=True)
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "HELD": held, **environment}
    script = ["sh", str(out / FILE), *arguments]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)


def started(out: Path, *arguments: str, **environment: str) -> Ran:
    done = run(out, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    *said, words = done.stdout.split("\n", 4)
    return Ran(*said, words.splitlines())


def test_the_script_serves_the_adapter_beside_its_base_on_this_machine_alone(tmp_path):
    out = export(tmp_path, served_name="acme")
    assert started(out).words == [
        "-m", "vllm.entrypoints.openai.api_server", "--model", "org/base", "--host", "127.0.0.1",
        "--dtype", "bfloat16", "--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"acme={out}",
        "--revision", "c0ffee",
    ]  # fmt: skip


def test_the_base_may_lie_in_a_folder_and_further_arguments_go_to_vllm(tmp_path):
    found = started(export(tmp_path), "--port", "9000", BASE="/models/my base")
    assert found.after("--model") == "/models/my base"
    assert "--revision" not in found.words, "a folder has none"
    assert found.words[-2:] == ["--port", "9000"]


@pytest.mark.parametrize(("dtype", "named"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
@pytest.mark.parametrize("adapts", [True, False])
def test_it_is_served_in_the_type_that_it_was_measured_in(tmp_path, monkeypatch, dtype, named, adapts):
    monkeypatch.setattr(TRAINED_IN, "dtype", dtype)
    assert started(export(tmp_path, adapts=adapts)).after("--dtype") == named


def test_a_base_that_is_in_no_repository_must_be_named(tmp_path):
    """As one that is packed or merged here, or a folder: vLLM would look for a repository of that name."""
    out = export(tmp_path, published=None, base_name="SmolLM2+gptq")
    done = run(out)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the base `SmolLM2+gptq` is in no repository: name the folder that holds it, as in BASE=" in done.stderr
    assert "its identity is ab12" in done.stderr
    found = started(out, BASE="base")
    assert found.after("--model") == "base"
    assert "--revision" not in found.words


def test_a_folder_is_called_by_its_whole_path(tmp_path, monkeypatch):
    """Else the adapter's name could be the base's as well: one of the two would answer for both."""
    out = export(tmp_path, published=None)
    monkeypatch.chdir(tmp_path)
    assert started(out, BASE="base").after("--model") == str(tmp_path / "base")


def test_a_base_that_the_run_made_is_taken_from_the_package(tmp_path):
    out = export(tmp_path, published=None)
    package = tmp_path / "acme-1.0.0"
    (package / "forms").mkdir(parents=True)
    (package / "base").mkdir()
    form = out.rename(package / "forms" / "vllm")
    assert run(form).returncode == 2, "it is no package yet"
    (package / "manifest.json").write_text("{}")
    assert started(form).after("--model") == str(package / "base")
    assert started(form, BASE="/elsewhere").after("--model") == "/elsewhere"


def packaged(tmp_path: Path) -> tuple[Path, Path]:
    """The export in a package that is handed over, and the base that it belongs on."""
    out, base = export(tmp_path), model_folder(tmp_path / "right")
    (out / "adapter_model.safetensors").write_bytes(safetensors(ADAPTER))
    handed = contents(tmp_path / "run", base={"name": "right", "dtype": "bfloat16", **verify.model_identity(base)})
    form = {f"forms/vllm/{path.relative_to(out)}": path for path in out.rglob("*") if path.is_file()}
    package = build(replace(handed, files={**handed.files, **form}), tmp_path / "packages")
    return package / "forms/vllm", base


def test_what_base_names_is_compared_with_what_the_adapter_was_trained_on(tmp_path):
    form, base = packaged(tmp_path)
    assert started(form, BASE=str(base)).after("--model") == str(base)
    other = model_folder(tmp_path / "other", {"w": floats(1, 2), "v": floats(4)})
    done = run(form, BASE=str(other))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not the base 'right' that this belongs on (other tensors)" in done.stderr
    assert "serve-vllm.sh: nothing is served" in done.stderr
    assert started(form, BASE=str(other), VERIFY="no").after("--model") == str(other)
    assert run(form, BASE=str(tmp_path / "gone")).returncode == 2
    assert started(form).after("--model") == "org/base", "of a repository at its commit there is nothing to compare"


def test_a_package_that_was_changed_is_not_served(tmp_path):
    form, base = packaged(tmp_path)
    with (form / "adapter_config.json").open("a") as file:
        file.write(" ")
    done = run(form, BASE=str(base))
    assert (done.returncode, done.stdout) == (2, "")
    assert "forms/vllm/adapter_config.json" in done.stderr


def test_a_folder_taken_out_of_its_package_says_that_the_base_is_not_checked(tmp_path):
    done = run(export(tmp_path), BASE="/models/base")
    assert done.returncode == 0
    assert "this folder lies in no package: BASE is not compared with what was trained on" in done.stderr


def test_an_interpreter_without_vllm_is_told(tmp_path):
    out = export(tmp_path)
    done = run(out, held="nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "python3 holds no vLLM: PYTHON=/path/to/bin/python names one that does" in done.stderr
    done = run(out, PYTHON="/no/such/python")
    assert done.returncode == 2
    assert "/no/such/python holds no vLLM" in done.stderr


def test_what_the_interpreter_is_asked_is_python(tmp_path):
    """By a real one, in which no vLLM is found, then one as vllm-cpu is installed, then vLLM itself."""
    out, held = export(tmp_path), tmp_path / "held"
    asked = (out / FILE).read_text().partition("held=$(")[2].partition(" || held=nothing")[0].removesuffix(")")
    found = []
    for name in ("", "vllm_cpu", "vllm"):
        if name:
            (held / "vllm").mkdir(parents=True)
            (held / "vllm/__init__.py").write_text("")
            (held / f"{name}-0.32.0.dist-info").mkdir()
            (held / f"{name}-0.32.0.dist-info/METADATA").write_text(f"Name: {name.replace('_', '-')}\nVersion: 1\n")
        script = ["sh", "-c", f"python={sys.executable}; {asked}"]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(held)}
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
        shutil.rmtree(held, ignore_errors=True)
    assert found == ["nothing", "cpu", "vllm"]


def test_on_a_cpu_vllm_is_told_so_and_elsewhere_nothing(tmp_path):
    out = export(tmp_path)
    found = started(out, held="cpu")
    assert (found.device, found.bind) == ("cpu", "nobind")
    assert "--enforce-eager" in found.words
    assert started(out, held="cpu", VLLM_CPU_OMP_THREADS_BIND="0-3").bind == "0-3"
    found = started(out)
    assert (found.device, found.bind) == ("", "")
    assert "--enforce-eager" not in found.words


def test_the_plugin_that_keeps_the_bases_rows_apart_goes_along(tmp_path):
    out = export(tmp_path)
    found = started(out)
    assert (found.path, found.plugins) == (str(out / PATCH), "")
    found = started(out, PYTHONPATH="/mine", VLLM_PLUGINS="acme")
    assert (found.path, found.plugins) == (f"{out / PATCH}:/mine", "acme,tunewright_lora")
    assert started(out, VLLM_PLUGINS="").plugins == "tunewright_lora", "an empty list lets none be loaded"
    (plugin,) = distributions(path=[str(out / PATCH)])
    (entry,) = plugin.entry_points
    assert (entry.group, entry.value) == ("vllm.general_plugins", "tunewright_lora:register")
    assert (out / PATCH / "tunewright_lora.py").read_bytes() == Path(lora_cpu.__file__).read_bytes()


@pytest.mark.parametrize("name", ["$(touch canary)", "`touch canary`", "a'; touch canary; '", 'a"b', "a b", "}x${y"])
def test_a_name_is_never_a_command(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    out = export(tmp_path, published=Published(name, name))
    found = started(out)
    assert (found.after("--model"), found.after("--revision")) == (name, name)
    (tmp_path / "other").mkdir()
    done = run(export(tmp_path / "other", published=None, base_name=name))
    assert f"the base `{name}` is in no repository" in done.stderr
    assert not Path("canary").exists()


def test_a_fully_tuned_model_is_served_by_itself(tmp_path):
    out = export(tmp_path, adapts=False)
    assert started(out).words == [
        "-m", "vllm.entrypoints.openai.api_server", "--model", str(out), "--host", "127.0.0.1", "--dtype", "bfloat16",
        "--served-model-name", "tuned",
    ]  # fmt: skip
    assert not (out / PATCH).exists()


@pytest.mark.parametrize(
    ("rank", "pattern", "bound"), [(8, {}, 8), (9, {}, 16), (4, {"q_proj": 40}, 64), (512, {}, 512)]
)
def test_the_bound_is_the_least_that_vllm_knows_and_holds_every_rank(tmp_path, rank, pattern, bound):
    assert started(export(tmp_path, rank=rank, pattern=pattern)).after("--max-lora-rank") == str(bound)


def test_all_of_it_may_stand_in_a_package(tmp_path):
    out = export(tmp_path)
    for path in filter(Path.is_file, out.rglob("*")):
        name = f"forms/vllm/{path.relative_to(out).as_posix()}"
        assert not verify.odd_name(name), name
        assert not verify.unsafe(name, path.read_bytes()[:8]), name
    assert "export PYTHONDONTWRITEBYTECODE=1" in (out / FILE).read_text(), "nor is anything put into it by serving it"


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
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert (out / "chat_template.jinja").read_text() == "T"
