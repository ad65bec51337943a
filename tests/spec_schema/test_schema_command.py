"""`tunewright schema`: all that is installed, whatever of it is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

BROKEN = {
    "stranger": "raise RuntimeError('no licence')",
    "undescribed": """
from tunewright.parts import Gate, Options

class Strange:
    pass

class StrangeOptions(Options, arbitrary_types_allowed=True):
    kind: str = "undescribed"
    thing: Strange

class Undescribed(Gate):
    kind, Options = "undescribed", StrangeOptions

    def metrics(self):
        return frozenset()

    def judge(self, evidence):
        return None
""",
}


@pytest.fixture
def broken(tmp_path):
    """A folder with a plugin whose backends cannot be imported, or not be described; its environment."""
    for name, text in BROKEN.items():
        (tmp_path / f"acme_{name}.py").write_text(text)
    targets = {"gate/stranger": "acme_stranger:Gate", "gate/undescribed": "acme_undescribed:Undescribed"}
    targets["gate/absent"] = "acme_absent:Gate"
    (tmp_path / "acme.py").write_text(
        f"from tunewright.host import hookimpl\n\n@hookimpl\ndef tunewright_backends():\n    return {targets!r}\n"
    )
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tunewright]\nacme = acme\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path}


def run(*arguments, env=None):
    command = [str(Path(sys.executable).with_name("tunewright")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_a_backend_that_cannot_be_imported_is_named_and_takes_nothing_down(broken):
    done = run("schema", env=broken)
    assert done.returncode == 0, done.stderr
    for kind, why in (("stranger", "no licence"), ("undescribed", "Strange"), ("absent", "acme_absent")):
        (line,) = [line for line in done.stderr.splitlines() if f"`gate/{kind}`" in line]
        assert "acme" in line
        assert why in line
    schema = json.loads(done.stdout)
    gates = {"$ref": "#/$defs/gate", "$defs": schema["$defs"]}
    check = Draft202012Validator(gates)
    assert check.is_valid("stranger")
    assert check.is_valid({"kind": "stranger", "whatever": 1})
    assert not check.is_valid({"kind": "threshold", "metric": "a.b", "whatever": 1})
    assert schema["x-tunewright"]["plugins"]["acme"] == {"distribution": "acme", "version": "1"}


def test_equal_plugins_give_equal_bytes_and_out_writes_them(tmp_path):
    out = tmp_path / "s.json"
    printed = [run("schema", env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")]
    done = run("schema", "--out", str(out))
    assert done.stdout == ""
    assert printed[0] == printed[1] == out.read_text()


def test_a_folder_that_is_not_there_is_bad_input(tmp_path):
    done = run("schema", "--out", str(tmp_path / "no" / "s.json"))
    assert done.returncode == 2
    assert "there is no folder" in done.stderr


def test_validate_imports_nothing_of_it(fake_spec, fakes):
    code = (
        "import sys; from pathlib import Path; from tunewright.cli import main; "
        f"sys.argv = ['tunewright', 'validate', {str(fake_spec)!r}]\n"
        "try:\n    main.main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
        "print([name for name in sys.modules if name.startswith(('tunewright.schema', 'tunewright.reference'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
