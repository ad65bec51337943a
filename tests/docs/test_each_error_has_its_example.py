"""docs/errors.md is proven: each section's example gives its code, and what stands under `Instead:` does not.

The page itself holds the good spec, its rows and its base; a fence's info string says which file it is. The rules are
written for readers in its section "How to read the examples".
"""

from __future__ import annotations

import csv
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tunewright.errors import BadInput
from tunewright.host import Host, hookimpl
from tunewright.parts.gate import Gate, GateOptions
from tunewright.project import Project
from tunewright.spec.compose import MAX_DEPTH, MAX_NODES
from tunewright.spec.document import MAX_BYTES
from tunewright.spec.problems import SpecError
from tunewright_vllm.export import RANKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text("utf-8")
INTRODUCTION, *SECTIONS = re.split(r"^### ", PAGE, flags=re.MULTILINE)
BY_CODE = {section.partition("\n")[0]: re.split(r"^## ", section, flags=re.MULTILINE)[0] for section in SECTIONS}

FENCE = re.compile(r"^```(\w+) ?(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
TIMES = re.compile(r"^(.*) … × ([\d,]+)$", re.MULTILINE)

CONFIG = next(body for _, info, body in FENCE.findall(INTRODUCTION) if info == "base/config.json")

PROVEN_ELSEWHERE = {"unknown-module": "tests/tunewright_bitsandbytes/test_nf4_keeps_its_gradients.py"}
"""Codes that only a real model gives, and the test that has one."""


class BetweenOptions(GateOptions):
    kind: str = "between"
    metric: str
    low: float
    high: float


class Between(Gate[BetweenOptions]):
    """A plugin's gate that refuses its options itself."""

    kind, Options = "between", BetweenOptions

    def __init__(self, options):
        if options.low > options.high:
            raise BadInput("`low` is above `high`")
        super().__init__(options)

    def metrics(self):
        return frozenset({self.options.metric})

    def judge(self, evidence):
        raise NotImplementedError


@pytest.fixture(scope="module")
def host():
    """First-party plugins, and one with the gate that the page speaks of."""
    module = ModuleType("plugin_of_the_page")
    module.Between = Between
    module.tunewright_backends = hookimpl(lambda: {"gate/between": f"{module.__name__}:Between"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        host = Host(extra={"page": module})
        assert host.faults == []
        yield host


class Client:
    """A folder with the good spec; each text that is put there changes what it shows and leaves the rest."""

    def __init__(self, folder, host):
        self.folder, self.host = folder, host
        self.spec, self.overrides = folder / "client.yaml", []
        folder.mkdir()
        (folder / "base").mkdir()
        self.put(INTRODUCTION)
        if not self.spec.exists():
            self.spec.write_text("extends: good.yaml\n")

    def put(self, text):
        """Write every file that the fences of a text hold."""
        for language, info, body in FENCE.findall(text):
            name, _, encoding = info.partition(" ")
            body = TIMES.sub(lambda found: found[1] * int(found[2].replace(",", "")), body)
            if language == "console":
                words = shlex.split(body.removeprefix("$ "))
                assert words[:3] == ["tunewright", "validate", "client.yaml"]
                assert set(words[3::2]) == {"--set"}
                self.overrides = words[4::2]
            elif name.endswith("/"):
                self.put_folder(self.folder / name, body.split())
            elif name:
                (self.folder / name).parent.mkdir(exist_ok=True)
                (self.folder / name).write_bytes(body.encode(encoding or "utf-8"))
            else:
                whole = body.startswith("extends:")
                self.spec.write_text(body if whole else f"extends: good.yaml\n{body}")

    def put_folder(self, folder, names):
        """The folder holds these files and no others: the good base's config.json, the rest empty."""
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).write_text(CONFIG if name == "config.json" else "")

    def problems(self, *, plan):
        """The codes of every problem that `validate` finds, or `plan` where it must read all rows."""
        project = Project(self.spec, self.overrides, self.host)
        found = [problem.code for problem in project.validate()]
        if plan and not found:
            try:
                project.plan()
            except SpecError as error:
                return [problem.code for problem in error.problems]
        return found


@pytest.fixture
def client(tmp_path, monkeypatch, cache, host):
    """The good spec's folder, which is the working folder, as for somebody who types the page's commands."""
    made = Client(tmp_path / "client", host)
    monkeypatch.chdir(made.folder)
    return made


def halves(code):
    """What a section shows as wrong, and what it shows as right."""
    wrong, mark, right = BY_CODE[code].partition("\nInstead:")
    assert mark, "says what to write instead"
    return wrong, right


def test_the_good_spec_is_good(client):
    assert client.problems(plan=True) == []


@pytest.mark.parametrize("code", BY_CODE)
def test_a_section_says_what_it_means_why_and_what_to_write(code):
    wrong, right = halves(code)
    paragraphs = [text for text in FENCE.sub("", wrong).split("\n\n")[1:] if text.strip()]
    assert len(paragraphs) == 2, "one paragraph of what it means, one of why it is bad"
    assert FENCE.search(wrong)
    assert FENCE.search(right)
    assert 8 <= len(BY_CODE[code].strip().splitlines()) <= 28


@pytest.mark.parametrize("code", [code for code in BY_CODE if code not in PROVEN_ELSEWHERE])
def test_the_example_gives_its_code_and_the_right_form_does_not(code, client):
    wrong, right = halves(code)
    plan = "`tunewright plan`" in wrong
    client.put(wrong)
    assert set(client.problems(plan=plan)) == {code}
    client.put(right)
    assert client.problems(plan=plan) == []


@pytest.mark.parametrize("code", PROVEN_ELSEWHERE)
def test_what_only_a_model_gives_is_proven_with_one_and_is_otherwise_right(code, client):
    assert f'"{code}"' in (ROOT / PROVEN_ELSEWHERE[code]).read_text()
    for half in halves(code):
        client.put(half)
        assert client.problems(plan=False) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("file-too-large", f"more than {MAX_BYTES >> 10} KiB"),
        ("yaml-too-large", f"more than {MAX_NODES:,} values"),
        ("yaml-too-deep", f"more than {MAX_DEPTH} levels"),
        ("bad-csv", f"more than {csv.field_size_limit():,} characters"),
        ("target-cannot-load", f"ranks up to {RANKS[-1]}"),
    ],
)
def test_the_bounds_that_the_page_names_are_those_of_the_code(code, said):
    assert said in " ".join(BY_CODE[code].split())
