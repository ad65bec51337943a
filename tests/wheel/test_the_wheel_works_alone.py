"""The wheel in a fresh environment with nothing but its base dependencies: no torch, and what needs it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """bin/ of a virtual environment in which the freshly built wheel is installed."""
    folder = tmp_path_factory.mktemp("fresh")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("tunewright-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    binaries = folder / "venv" / "bin"
    subprocess.run([str(binaries / "python"), *pip[1:], "install", str(wheel)], check=True)
    return binaries


def call(environment, *words):
    return subprocess.run([str(environment / "tunewright"), *words], capture_output=True, text=True, check=False)


def test_validate_works_without_torch(environment):
    assert subprocess.run(
        [str(environment / "python"), "-c", "import torch"], check=False, capture_output=True
    ).returncode
    done = call(environment, "validate", str(ROOT / "specs/quickstart/quickstart.yaml"))
    assert done.returncode == 0, done.stderr


def test_the_wheel_carries_the_quickstart(environment):
    program = "from tunewright.cli.commands import quickstart_spec; print(quickstart_spec())"
    done = subprocess.run([str(environment / "python"), "-c", program], capture_output=True, text=True, check=True)
    spec = Path(done.stdout.strip())
    assert environment.parent in spec.parents
    assert {"train.csv", "test.csv"} <= {path.name for path in spec.parent.iterdir()}


def test_what_needs_the_extra_names_it(environment, tmp_path):
    done = call(environment, "run", str(ROOT / "specs/quickstart/quickstart.yaml"), "--out", str(tmp_path))
    assert done.returncode == 3
    assert 'pip install "tunewright[train]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_plugins_and_doctor_answer(environment):
    assert "trainer/sft" in call(environment, "plugins", "list").stdout
    assert call(environment, "doctor").returncode == 3
