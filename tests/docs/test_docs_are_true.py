"""What the docs say is what the code does."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[a-z]+(-[a-z0-9]+)+")
MAKERS = {"Finding", "BadOption", "Problem", "Need", "_fail", "_one", "fail", "problem"}
NAMES = {"code", "CODE", "_CODES"}


def codes_in(path):
    """Every problem code that a module makes: a kebab-case text given to what makes problems, or set under a name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found = node.args if name in MAKERS else []
        elif isinstance(node, ast.keyword) and node.arg == "code":
            found = [node.value]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = list(ast.walk(node.value)) if getattr(targets[0], "id", "") in NAMES else []
        else:
            continue
        for value in found:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and CODE.fullmatch(value.value):
                yield value.value


def test_every_error_code_has_its_section_and_every_section_its_code():
    ours = [ROOT / "sdk", *(ROOT / "plugins").glob("tunewright_*")]  # a client's plugin has codes of its own
    made = {code for top in ours for path in top.rglob("*.py") for code in codes_in(path)}
    sections = re.findall(r"^### (.+)$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(set(sections))
    assert set(sections) == made


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_spec_of_the_project_is_valid():
    specs = [path for top in ("specs", "tests/realdata") for path in (ROOT / top).rglob("*.yaml")]
    assert len(specs) >= 2
    if not (ROOT.parent / "shared" / "data").is_dir():
        specs = [spec for spec in specs if not {"real", "realdata"} & set(spec.parts)]
    command = [str(Path(sys.executable).with_name("tunewright")), "validate", "--format", "json", *map(str, specs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [problem for problem in json.loads(done.stdout) if not is_made_later(problem)] == []


def is_made_later(problem):
    """Whether a file is missing only until the test that runs the spec has made it."""
    made = ("pairs.jsonl", "held_out_pairs.jsonl")
    return problem["code"] == "file-missing" and any(f"`{name}`" in problem["message"] for name in made)


def test_the_tutorials_spec_is_valid(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    spec = tmp_path / "my-desk.yaml"
    spec.write_text("\n".join(line.removeprefix("   ") for line in block.splitlines()))
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,queue\nhello,greetings\n")
    from tunewright.project import Project

    assert Project.from_spec(spec).validate() == []


def test_the_plugin_of_the_how_to_works(tmp_path, monkeypatch):
    blocks = re.findall(
        r"```python\n# (\S+)\n(.*?)```", (ROOT / "docs/how-to/write-a-plugin.md").read_text(), re.DOTALL
    )
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import acme_tunewright

    from tunewright.host import Host

    host = Host(extra={"acme": acme_tunewright})
    assert host.faults == []
    brevity = host.backend("evaluator", "brevity")
    assert set(brevity(brevity.Options.model_validate({"kind": "brevity"})).summaries()) == {"short"}


def test_every_command_of_the_readme_is_there():
    from tunewright.cli.main import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    groups = {group.name for group in app.registered_groups}
    for words in re.findall(r"`tunewright ([a-z]+)", (ROOT / "README.md").read_text()):
        assert words in names | groups
