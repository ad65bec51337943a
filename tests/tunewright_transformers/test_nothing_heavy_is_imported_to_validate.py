"""`validate` imports a backend to read its options: that must work, and be quick, where torch is absent."""

import subprocess
import sys

import pytest

import tunewright_bitsandbytes
import tunewright_peft
import tunewright_transformers

TARGETS = [
    target
    for plugin in (tunewright_transformers, tunewright_bitsandbytes, tunewright_peft)
    for target in plugin.tunewright_backends().values()
]
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "numpy", "gguf", "huggingface_hub")

SCRIPT = """
import importlib, sys
for name in {heavy!r}:
    sys.modules[name] = None  # importing it is now an ImportError
for target in {targets!r}:
    module, _, name = target.partition(":")
    backend = getattr(importlib.import_module(module), name)
    if (backend.part, backend.kind) not in (("model_source", "local"), ("model_source", "hub")):
        given = {{"adapters": [{{"path": "other", "weight": 1.0}}]}} if backend.kind == "weighted" else {{}}
        made = backend(backend.Options.model_validate({{"kind": backend.kind, **given}}))
        made.signature(), made.arguments(), list(made.needs()), made.offers()
"""


def test_every_backend_is_read_without_its_libraries():
    script = SCRIPT.format(heavy=HEAVY, targets=TARGETS)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_named_with_its_extra():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from tunewright_transformers.loader import TransformersLoader as L\n"
        "from tunewright.errors import MissingExtra\n"
        "try: L(L.Options(kind='transformers')).device()\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "`loader/transformers` needs `torch`" in done.stdout, done.stderr
    assert "tunewright[train]" in done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_option_reaches_a_library_or_our_own_code(target):
    from importlib import import_module

    from tunewright.parts import To

    module, _, name = target.partition(":")
    backend = getattr(import_module(module), name)
    for field, info in backend.Options.model_fields.items():
        passed = any(isinstance(mark, To) for mark in info.metadata)
        core = field in ("kind", "args", "name", "parent", "other_quantization", "engine")
        assert passed or core or field in backend.reads, f"{target}: `{field}` goes nowhere"
        assert core or info.description, f"{target}: `{field}` is not described"
