"""The example at the head of each contract's module is a whole plugin module: it keeps its contract, by the kit."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from tunewright.parts import PARTS, Backend

CONTRACTS = {"base": Backend, **PARTS}
LONGEST = 68  # lines: it is read before the contract itself


def example_of(contract):
    """The indented lines of the module's docstring."""
    text = inspect.cleandoc(importlib.import_module(contract.__module__).__doc__)
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", f"{text}\n", re.MULTILINE)
    return "\n\n".join(textwrap.dedent(block).strip() for block in blocks if block.strip())


@pytest.fixture(params=CONTRACTS)
def example(request, tmp_path, monkeypatch):
    """The contract, and the module that its example makes, importable in child processes as the kit needs it."""
    contract = CONTRACTS[request.param]
    name = f"example_of_{request.param}"
    (tmp_path / f"{name}.py").write_text(example_of(contract))
    monkeypatch.syspath_prepend(str(tmp_path))
    return contract, importlib.import_module(name)


def test_it_keeps_its_contract(example, tmp_path):
    contract, module = example
    made = [thing for thing in vars(module).values() if inspect.isclass(thing) and thing.__module__ == module.__name__]
    (backend,) = [thing for thing in made if issubclass(thing, contract)]
    own = set(vars(backend.Options)["__annotations__"]) - {"kind"}
    assert backend.Options in made
    assert own, "shows an option"
    assert all(backend.Options.model_fields[name].description for name in own)
    (tmp_path / "folder").mkdir()
    module.test_it_keeps_its_contract(tmp_path / "folder")


@pytest.mark.parametrize("part", CONTRACTS)
def test_it_is_short_and_calls_the_kit(part):
    text = example_of(CONTRACTS[part])
    assert len(text.splitlines()) <= LONGEST
    assert all(len(line) <= 96 for line in text.splitlines())
    assert re.search(r"^    check_\w+\(", text, re.MULTILINE)
    assert Path(inspect.getfile(CONTRACTS[part])).stem == part
