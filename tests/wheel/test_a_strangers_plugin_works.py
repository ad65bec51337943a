"""plugins/example-client as any client has it: built into a wheel of its own, installed beside Tunewright's."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tiny import tiny_model

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "plugins" / "example-client"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "model={source: {kind: local, path: base, license: Apache-2.0}, dtype: fp32}", "quantization={kind: none}",
    "trainer.epochs=1", "trainer.max_length=400", "data.train.0.limit=8", "data.test.0.limit=4",
    "gates.0.at_least=-1.0",
]  # fmt: skip
"""Overrides under which the client's own spec runs in a minute, on a random model whose gains are luck."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """(Tunewright's wheel, the example's wheel)."""
    folder = tmp_path_factory.mktemp("wheels")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("*.db", "runs", "__pycache__"))
    for project in (ROOT, source):
        subprocess.run([*PIP, "wheel", "--no-deps", "-w", str(folder), str(project)], check=True)
    (core,), (acme,) = folder.glob("tunewright-*.whl"), folder.glob("acme_tunewright-*.whl")
    return core, acme


@pytest.fixture(scope="module")
def light(wheels, tmp_path_factory):
    """A fresh environment with both wheels and the base dependencies: no torch."""
    folder = tmp_path_factory.mktemp("light") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin/python"), *PIP[1:], "install", *map(str, wheels)], check=True)
    return folder


@pytest.fixture(scope="module")
def heavy(wheels, tmp_path_factory):
    """A fresh environment with both wheels, in which the libraries of this one can be imported as well."""
    folder = tmp_path_factory.mktemp("heavy") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    to = ["--python", str(folder / "bin/python"), "install", "--no-deps", *map(str, wheels)]
    subprocess.run([*PIP, *to], check=True)
    # afterwards, so that pip sees no other Tunewright; a folder named so is searched last, and its own .pth not read
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def client(tmp_path):
    """The client's folder, its database made as the README says."""
    for name in ("client.yaml", "tickets.sql"):
        shutil.copyfile(EXAMPLE / name, tmp_path / name)
    (command,) = re.findall(r"^\$ python -c (.*sqlite3.*)$", (EXAMPLE / "README.md").read_text("utf-8"), re.MULTILINE)
    subprocess.run([sys.executable, "-c", *shlex.split(command)], check=True, cwd=tmp_path)
    return tmp_path


def change(client, sql):
    with closing(sqlite3.connect(client / "tickets.db")) as database:
        database.executescript(sql)


def call(environment, folder, *words):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean |= {"TUNEWRIGHT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [str(environment / "bin" / words[0]), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=clean)


def test_tunewrights_wheel_holds_the_templates_of_new_plugins_and_no_example(wheels):
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert "tunewright/cli/templates/quantizer.py.txt" in names
    assert "tunewright/cli/projects/domain.yaml.txt" in names
    assert [name for name in names if "acme" in name or "example" in name] == []


def test_the_plugin_is_listed_with_its_distribution_and_version(light, client):
    listed = json.loads(call(light, client, "tunewright", "plugins", "list", "--json").stdout)
    assert listed["faults"] == []
    brought = {key: entry for key, entry in listed["backends"].items() if entry["plugin"] == "acme"}
    assert set(brought) == {"data_source/tickets", "prompt_format/triage", "evaluator/triage", "gate/sure_gain"}
    assert {(entry["distribution"], entry["version"]) for entry in brought.values()} == {("acme-tunewright", "1.2.0")}
    assert "acme-tunewright 1.2.0" in call(light, client, "tunewright", "plugins", "list").stdout


def test_the_clients_spec_is_valid_where_torch_is_absent(light, client):
    assert call(light, client, "python", "-c", "import torch").returncode
    done = call(light, client, "tunewright", "validate", "client.yaml")
    assert (done.returncode, done.stdout) == (0, "1 spec: fine\n"), done.stderr


def test_a_row_against_the_house_rule_is_refused_with_its_code_and_place(light, client):
    change(client, "UPDATE tickets SET body = body || ' Ask kim@example.org.' WHERE id = 20")
    done = call(light, client, "tunewright", "validate", "client.yaml")
    lines = (client / "client.yaml").read_text().splitlines()
    line, text = next((n, text) for n, text in enumerate(lines, 1) if text.startswith("  train:"))
    place = f"client.yaml:{line}:{text.index('{') + 1}"
    assert done.returncode == 2
    assert (
        f"{place}: error[acme-address-in-training]: tickets.db:tickets: row 3: an e-mail address in `body`"
        in done.stderr
    )
    assert "kim@" not in done.stdout + done.stderr


def test_a_misspelt_table_is_refused_at_its_option(light, client):
    done = call(light, client, "tunewright", "validate", "client.yaml", "--set", "data.train.0.table=ticket")
    assert done.returncode == 2
    assert "no such table: ticket" in done.stderr


def test_a_row_that_no_head_shows_is_refused_before_anything_is_fetched(heavy, client):
    many = "INSERT INTO tickets SELECT id + 1000 * n, opened, subject, body, first_team, team FROM tickets, range"
    numbers = "WITH RECURSIVE range(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM range WHERE n < 19)"
    change(client, f"{numbers} {many}; UPDATE tickets SET subject = 'from kim@example.org' WHERE id = 19114")
    small = [word for pair in SMALL if "limit" not in pair for word in ("--set", pair)]
    tiny_model(client / "base", "llama")
    assert call(heavy, client, "tunewright", "validate", "client.yaml", *small).returncode == 0
    done = call(heavy, client, "tunewright", "run", "client.yaml", *small)
    assert done.returncode == 2
    assert "error[acme-address-in-training]: tickets.db:tickets:19114: an e-mail address in `subject`" in done.stderr
    assert not (client / "cache").exists()


def test_the_clients_spec_runs_to_its_package(heavy, client):
    where = call(heavy, client, "python", "-c", "import tunewright, torch; print(tunewright.__file__, torch.__file__)")
    core, torch = map(Path, where.stdout.split())
    assert core.is_relative_to(heavy)
    assert not torch.is_relative_to(heavy)
    tiny_model(client / "base", "llama")
    small = [word for pair in SMALL for word in ("--set", pair)]
    done = call(heavy, client, "tunewright", "run", "client.yaml", "--json", *small)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    folder = Path(summary["run_dir"])
    assert json.loads((folder / "run.json").read_text())["status"] == "passed"
    assert set(summary["scores"]) == {"triage.right", "triage.known"}
    assert summary["gates"][0]["gate"] == "triage.right surely gains -1"
    assert "acme-tunewright: 1.2.0" in (folder / "spec.lock.yaml").read_text()
    package = Path(summary["artifacts"]["package"])
    assert "tickets.db:new_tickets:203" in (package / "evals/triage.tuned.jsonl").read_text()
    assert call(heavy, client, "tunewright", "verify", str(package)).returncode == 0


def test_the_plugins_own_tests_pass_with_what_is_installed(heavy, tmp_path):
    tests = shutil.copytree(EXAMPLE, tmp_path / "acme", ignore=shutil.ignore_patterns("acme_tunewright", "*.db"))
    done = call(heavy, tests, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
