"""verify.py as a client runs it: out of the package, with Python alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from handoff.packages import contents, model_folder
from tunewright.handoff import verify
from tunewright.handoff.package import build, zip_folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    base = model_folder(tmp_path / "base")
    identity = verify.model_identity(base)
    return build(contents(tmp_path / "in", base={"name": "tiny", **identity}), tmp_path)


def run(package: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # -S and -I: no site-packages, nothing from the environment
    command = [sys.executable, "-I", "-S", str(package / "verify.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, check=False)


def test_a_good_package_ends_with_zero(package, tmp_path):
    archive = zip_folder(package)
    for arguments in ((), (package,), (archive,)):
        done = run(package, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "good: acme-support-1.0.0, 10 files, unsigned, base not compared (--base)\n"
    assert "the base is the right one" in run(package, "--base", tmp_path / "base").stdout


def test_a_changed_package_or_another_base_ends_with_one(package, tmp_path):
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    done = run(package, "--base", tmp_path / "base")
    assert done.returncode == 1
    assert "(other tokenizer)" in done.stdout
    (package / "prompts.json").write_text("[1]")
    done = run(package)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "refused: 'prompts.json': it was changed: its digest is another\n"


def test_arguments_that_make_no_sense_end_with_two(package, tmp_path):
    for arguments in (("--nope",), (tmp_path / "nothing",), ("--base", tmp_path / "nothing")):
        done = run(package, *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_names_from_outside_cannot_write_to_the_terminal(package):
    (package / "a\x1b[31mb‮").write_text("x")
    done = run(package)
    assert done.returncode == 1
    assert done.stdout == "refused: 'a\\x1b[31mb\\u202e' is not listed in manifest.json\n"


def test_verify_imports_the_standard_library_alone():
    tree = ast.parse(Path(verify.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
