"""docs/how-to/write-a-plugin.md, run from top to bottom as a reader would: files, commands, and their output.

Once with a stand-in for pip that needs no network, once (slow) with pip itself.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest
from shown import agrees, commands

from tunewright.cli.scaffold import TEMPLATES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "write-a-plugin.md").read_text("utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.\w+)\n")


class Block(NamedTuple):
    """A fenced block and the line of the page that its text begins on."""

    kind: str
    text: str
    line: int


BLOCKS = [Block(m[1], m[2], PAGE[: m.start(2)].count("\n") + 1) for m in FENCE.finditer(PAGE)]


@pytest.fixture(params=["stand-in", pytest.param("pip", marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def shell(request, tmp_path):
    """Runs a command in the folder that the page has come to, in an environment of its own."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    python = venv / "bin" / "python"
    script(venv / "bin" / "tunewright", f'"{python}" -c "from tunewright.cli.start import main; main()"')
    stand_in, real = f'"{python}" "{ROOT}/tests/installed.py"', f'"{sys.executable}" -m pip -q --python "{python}"'
    script(venv / "bin" / "pip", real if request.param == "pip" else stand_in)
    environment = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    environment |= {"COLUMNS": "200", "PYTEST_ADDOPTS": "-p no:cacheprovider", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment.pop("DESK_TOKEN", None)
    folder = [tmp_path / "reader"]
    folder[0].mkdir()

    def run(command):
        if command.startswith("cd "):
            folder[0] = folder[0] / command.removeprefix("cd ")
            return ""
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        words = ["/bin/sh", "-c", command]
        return subprocess.run(words, text=True, cwd=folder[0], env=environment, check=False, **both).stdout

    return run, folder


def script(path, line):
    path.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    path.chmod(0o755)


def test_every_block_does_what_the_page_says(shell):
    run, folder = shell
    compared = 0
    for block in BLOCKS:
        named = FILE.match(block.text)
        if block.kind == "console":
            for command, shown in commands(block.text):
                said = run(command)
                if shown:
                    assert agrees(shown, said), f"line {block.line}: $ {command}\n{said}"
                    compared += 1
                elif not command.startswith(("pip", "cd")):
                    assert said == "", f"line {block.line}: $ {command}\n{said}"
        elif named:
            path = folder[0] / named[1]
            assert path.parent.is_dir(), f"line {block.line}: {path.parent} is not there"
            path.write_text(block.text)
    assert compared >= 10


def test_what_names_no_file_is_an_excerpt_of_a_new_plugin():
    templates = "\n".join(path.read_text("utf-8") for path in TEMPLATES.glob("*.py.txt"))
    for block in BLOCKS:
        if block.kind == "python" and not FILE.match(block.text):
            inner = "".join(f"    {line}" for line in block.text.splitlines(keepends=True))
            assert inner in templates, f"line {block.line}: no template has it"


def test_an_output_that_differs_is_noticed():
    shown = "a …\n…\nlast line\n"
    assert agrees(shown, "a b\nmore\nand more\nlast line\n")
    assert agrees(shown, "a b\nlast   line\n")
    for said in ("b\nlast line\n", "a b\nlast\n", "a b\nlast line\nand more\n", "a b\nlast lines\n"):
        assert not agrees(shown, said)
