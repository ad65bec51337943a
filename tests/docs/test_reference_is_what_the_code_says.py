"""docs/reference is written from the code, is up to date, and leaves nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from tunewright.host import Hooks
from tunewright.parts import PARTS, To
from tunewright.reference import pages
from tunewright.schema import first_party_host
from tunewright.spec.model import Spec

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = pages()
HOST = first_party_host()
BACKENDS = {key: HOST.backend(*key.split("/")) for key in sorted(HOST.table)}
HOOKS = sorted(name for name in vars(Hooks) if name.startswith("tunewright_"))


def text(name):
    return (REFERENCE / name).read_text()


def section(page, title):
    """What stands under the heading that begins with `title`, up to the next of its level."""
    level = title.partition(" ")[0]
    (found,) = re.findall(rf"^{re.escape(title)}(?![\w-]).*?(?=^{level} |\Z)", page, re.MULTILINE | re.DOTALL)
    return found


def models(model):
    """A model and the models that its fields hold."""
    yield model
    for info in model.model_fields.values():
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from models(inner)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_what_the_code_says_now(name):
    assert text(name) == PAGES[name], "run `make reference`"


def test_nothing_else_lies_there():
    assert sorted(path.name for path in REFERENCE.iterdir()) == sorted(PAGES)


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_on_its_page_and_in_a_test(hook):
    assert f"def {hook}(" in text("hooks.md")
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert any(hook in path.read_text() for path in tests), f"no test names {hook}"


@pytest.mark.parametrize("part", PARTS)
def test_each_method_of_a_contract_is_on_its_page(part):
    found = section(text("parts.md"), f"## {part}:")
    for name in PARTS[part].__abstractmethods__:
        assert re.search(rf"^def {name}\(", found, re.MULTILINE), f"{part}: {name}"
    assert "omplete" in found, f"{part}: no complete example"


@pytest.mark.parametrize("model", [Spec, *(backend.Options for backend in BACKENDS.values())], ids=lambda m: m.__name__)
def test_each_field_has_a_description(model):
    missing = [
        f"{inner.__name__}.{name}"
        for inner in models(model)
        for name, info in inner.model_fields.items()
        if not info.description and name != "kind"
    ]
    assert missing == [], "describe them, with their units"


@pytest.mark.parametrize("key", BACKENDS)
def test_each_option_is_on_its_page_with_the_argument_that_it_becomes(key):
    part, _, kind = key.partition("/")
    found = section(text("spec.md"), f"### {part.replace('_', ' ')} `{kind}")
    for name, info in BACKENDS[key].Options.model_fields.items():
        if name == "kind":
            continue
        entry = re.findall(rf"^- \*\*`{name}`\*\*:(.*?)(?=^- |\Z)", found, re.MULTILINE | re.DOTALL)
        assert len(entry) == 1, f"{key}: {name}"
        for mark in info.metadata:
            if isinstance(mark, To):
                assert f"→ `{mark.argument}`" in " ".join(entry[0].split()), f"{key}: {name}"


@pytest.mark.parametrize("command", ["validate", "plan", "run", "data show", "plugins show", "schema"])
def test_each_flag_of_a_command_is_on_its_page(command):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tunewright")), *command.split(), "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    flags = set(re.findall(r"^ +(--[a-z-]+)", done.stdout, re.MULTILINE)) - {"--help"}
    found = section(text("cli.md"), f"## `tunewright {command}")
    assert flags == set(re.findall(r"^- `(--[a-z-]+)", found, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_readable_as_it_stands(name):
    prose = re.sub(r"^```.*?^```", "", text(name), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 100 and " " in line.strip()]
    assert long == []
