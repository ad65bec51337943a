"""`pre-commit try-repo` on this checkout: both hooks work in an environment of their own, which has no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "specs" / "quickstart"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where pre-commit keeps its environments: one installation serves the module."""
    return tmp_path_factory.mktemp("pre-commit")


@pytest.fixture
def client(tmp_path):
    """A client's repository: a spec with its data, and a YAML file that is none."""
    repository = tmp_path / "client"
    shutil.copytree(QUICKSTART, repository / "specs")
    (repository / "ci.yaml").write_text("jobs: {}\n")
    subprocess.run(["git", "init", "--quiet"], cwd=repository, check=True)
    return repository


def hook(name: str, repository: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """What pre-commit says of every file of the repository."""
    subprocess.run(["git", "add", "--all"], cwd=repository, check=True)
    command = [sys.executable, "-m", "pre_commit", "try-repo", str(ROOT), name, "--all-files", "--color", "never"]
    # what the caller's git set for this very checkout would lead pre-commit astray
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"PRE_COMMIT_HOME": str(home)}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def test_specs_are_checked_and_other_files_passed_over(client, home):
    good = hook("tunewright-validate", client, home)
    assert good.returncode == 0, good.stdout + good.stderr
    spec = client / "specs" / "quickstart.yaml"
    spec.write_text(spec.read_text().replace("  batch_size:", "  batchsize:"))
    bad = hook("tunewright-validate", client, home)
    assert bad.returncode == 1
    assert "specs/quickstart.yaml:" in bad.stdout
    assert "error[unknown-key]: `batchsize` is not an option of trainer `sft`" in bad.stdout
    assert "did you mean `batch_size`?" in bad.stdout
    assert "ci.yaml" not in bad.stdout


def test_a_package_is_verified_when_one_of_its_files_is_there(client, home):
    package = client / "acme-1.0.0"
    package.mkdir()
    (package / "manifest.json").write_text("{}")
    (package / "MANIFEST.sha256").write_text("0" * 64 + "  manifest.json\n")
    bad = hook("tunewright-verify", client, home)
    assert bad.returncode == 1
    assert "acme-1.0.0: refused:" in bad.stdout
    shutil.rmtree(package)
    assert hook("tunewright-verify", client, home).returncode == 0
