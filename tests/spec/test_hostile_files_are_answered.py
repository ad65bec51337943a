"""Whatever a file holds, the answer is a problem with a place in the file, soon and within bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_specs import CASES, MIB, PIECES, cases, filled

from tunewright.spec.compose import lines_of
from tunewright.spec.document import read
from tunewright.spec.problems import SpecError

# of the whole process, interpreter and all: `validate` of a good spec takes 43 MB
MEMORY = 200 * 10**6
SECONDS = 20
CHILD = f"""
import json, resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from pathlib import Path
from tunewright.project import Project
from tunewright.spec.problems import SpecError, render_github, render_json, render_text
for path in sys.argv[1:]:
    print(json.dumps([path]), flush=True)
    signal.alarm({SECONDS})
    project = Project.from_spec(Path(path))
    try:
        project.resolve()
        problems = []
    except SpecError as error:
        problems = error.problems
        render_text(problems, error.sources), render_json(problems), render_github(problems)
    print(json.dumps([path, [[p.code, p.message, *p.position] for p in problems]]), flush=True)
"""


def answers(folder, files):
    """The problems that one process with little memory finds in files, each within some seconds."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *files], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1]}: exit {done.returncode}: {done.stderr[-500:]}"
    return [line for line in lines if len(line) == 2]


def is_inside(path, line, column):
    lines = lines_of(path.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff"))
    return line <= len(lines) and column <= len(lines[line - 1]) + 1


GROUPS = {
    "cases": list(CASES),
    "as many": [f"as many {name} as there may be" for name in PIECES],
    "from the start": [f"from the start {name}" for name in PIECES],
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_file_is_a_problem_with_a_place(tmp_path, group):
    made = dict(cases())
    names = {f"{number}.yaml": name for number, name in enumerate(GROUPS[group])}
    for file, name in names.items():
        (tmp_path / file).write_bytes(made[name]())
    found = answers(tmp_path, names)
    assert len(found) == len(names)
    for file, problems in found:
        assert problems, names[file]
        for _code, message, where, line, column, end in problems:
            assert where == file
            assert is_inside(tmp_path / file, line, column), (names[file], line, column)
            assert end > column
            assert message


@pytest.mark.parametrize(
    ("name", "code", "line", "column"),
    [
        ("an alias bomb", "yaml-too-large", 1, 16),
        ("aliases of itself", "yaml-syntax", 1, 8),
        ("a python tag", "yaml-tag", 1, 4),
        ("a merge key", "unknown-key", 2, 8),
        ("nested lists", "yaml-too-deep", 1, 44),
        ("nested blocks", "yaml-too-deep", 41, 41),
        ("a number of a million digits", "bad-value", 1, 7),
        ("a hexadecimal number without end", "bad-value", 1, 7),
        ("an open quote", "yaml-syntax", 1, 4),
        ("NUL", "yaml-syntax", 1, 5),
        ("NUL by escape", "bad-value", 1, 7),
        ("a path with NUL", "bad-value", 1, 10),
        ("UTF-16", "not-utf-8", 1, 1),
        ("Latin-1", "not-utf-8", 2, 8),
        ("a lone surrogate", "not-utf-8", 1, 4),
        ("a lone surrogate by escape", "bad-value", 1, 7),
        ("no character", "yaml-syntax", 1, 8),
        ("two documents", "yaml-syntax", 2, 1),
        ("YAML 1.1", "yaml-syntax", 2, 1),
        ("many keys", "yaml-too-large", 5000, 10),
    ],
)
def test_the_place_is_where_a_person_would_look(tmp_path, monkeypatch, name, code, line, column):
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_bytes(CASES[name]())
    try:
        problems = read(Path("x.yaml")).problems
    except SpecError as error:
        problems = error.problems
    assert (code, line, column) in [(p.code, p.position.line, p.position.column) for p in problems]


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    for name, start in (("zeros.yaml", b""), ("text.yaml", filled("a: b\n", MIB))):
        with (tmp_path / name).open("wb") as file:
            file.write(start)
            file.truncate(1024 * MIB)  # sparse: it takes no room on the disk
    for _, problems in answers(tmp_path, ["zeros.yaml", "text.yaml"]):
        assert [problem[0] for problem in problems] == ["file-too-large"]


@pytest.mark.timeout(SECONDS)
def test_what_is_no_plain_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "child.yaml").write_text("extends: pipe.yaml\n")
    for path in (tmp_path / "pipe.yaml", tmp_path / "folder.yaml", Path("/dev/zero")):
        with pytest.raises(SpecError, match="file-unreadable"):
            read(path)
    from tunewright.spec.load import load

    with pytest.raises(SpecError, match="pipe or a device"):
        load(tmp_path / "child.yaml")
    (tmp_path / "child.yaml").write_text("extends: /dev/zero\n")
    with pytest.raises(SpecError, match="pipe or a device"):
        load(tmp_path / "child.yaml")


def test_a_value_as_written_today_is_not_too_much(tmp_path):
    """The bounds are far above a real spec: hundreds of values of `where`, a long system message."""
    spec = tmp_path / "big.yaml"
    values = ", ".join(f"queue_{number}" for number in range(2_000))
    spec.write_text(f"a: {{where: {{queue: [{values}]}}}}\nsystem: {'word ' * 5_000}\n")
    document = read(spec)
    assert len(document.data["a"]["where"]["queue"]) == 2_000
    assert document.problems == []
