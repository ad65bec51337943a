"""`plugins new`: what it writes is installed as it is, passes the kit, and does its part of a real run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from installed import install
from tiny import tiny_model
from tunewright.cli.scaffold import TEMPLATES, new_plugin
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts import PARTS
from typed import typed

TESTS = Path(__file__).parents[1]
ROWS = "where is my parcel\tdelivery\nthe pump is broken\trepair\nI cannot sign in\taccount\nlost parcel\tdelivery\n"
SPEC = """\
apiVersion: tunewright/v1
name: zed
model: {source: {kind: zed-model-source, path: base}, loader: {kind: zed-loader}, dtype: fp32}
quantization: {kind: zed-quantizer}
adapter: {kind: zed-adapter, targets: [q_proj, v_proj, o_proj, up_proj, down_proj]}
data:
  format: {kind: zed-prompt-format}
  train: [{kind: zed-data-source, path: rows.txt}]
  test: [{kind: zed-data-source, path: rows.txt}]
trainer: {kind: zed-trainer, epochs: 12, learning_rate: 1.0e-2, max_length: 128}
evals: [{kind: zed-evaluator, max_new_tokens: 8}]
gates: [{kind: zed-gate, metric: zed-evaluator.contains, at_least: 0.5}]
exports: [{kind: zed-exporter}]
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """(folder with a new plugin of every part, the environment in which all are installed)."""
    folder = tmp_path_factory.mktemp("plugins")
    host = Host()
    packages = [folder / f"zed-{part.replace('_', '-')}" for part in PARTS]
    for part, package in zip(PARTS, packages, strict=True):
        new_plugin(package.name, part, folder, host)
        install(package, package)
    path = os.pathsep.join(map(str, packages))
    return folder, {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def among(plugins, monkeypatch):
    """The same, in this process and in what it starts: a fork need not import torch again."""
    folder, environment = plugins
    for package in environment["PYTHONPATH"].split(os.pathsep):
        monkeypatch.syspath_prepend(package)
    path = os.pathsep.join(filter(None, [environment["PYTHONPATH"], os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return folder, {**os.environ, "PYTHONPATH": path}


def test_every_part_has_its_template(plugins):
    assert {path.name.partition(".")[0] for path in TEMPLATES.glob("*.py.txt")} >= set(PARTS)
    folder, _ = plugins
    left = [path for path in folder.rglob("*") if path.is_file() and "@kind@" in path.read_text()]
    assert left == []


def test_each_passes_its_own_test_as_it_was_written(among, monkeypatch):
    folder, _ = among
    monkeypatch.chdir(folder)
    tests = sorted(str(path) for path in folder.glob("*/tests/test_*.py"))
    assert len(tests) == len(PARTS)
    done = typed("-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests, program=pytest.console_main)
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"{len(PARTS)} passed" in done.stdout


def test_all_of_them_together_make_a_run_whose_adapter_plain_peft_loads(among, tmp_path, monkeypatch):
    folder, environment = among
    tiny_model(tmp_path / "base", "llama")
    (tmp_path / "rows.txt").write_text(ROWS)
    (tmp_path / "zed.yaml").write_text(SPEC)
    loader = folder / "zed-loader/zed_loader/loader.py"
    text = loader.read_text()
    assert 'engine = "transformers"' in text
    loader.write_text(text.replace('engine = "transformers"', 'engine = "zed-engine"'))
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    try:
        done = typed("run", "zed.yaml", "--json")
    finally:
        loader.write_text(text)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["scores"]["zed-evaluator.contains"]["tuned"] == 1.0
    assert {name: form["agreement"] for name, form in summary["parity"].items()} == {"adapter": 1, "zed-exporter": 1}
    package = Path(summary["artifacts"]["package"])
    command = [sys.executable, str(TESTS / "plain_peft.py"), str(package), str(tmp_path / "base"), "--same-kernel"]
    peft = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    golden = json.loads((package / "prompts.json").read_text())
    assert json.loads(peft.stdout.splitlines()[-1]) == [entry["answer_ids"] for entry in golden]


@pytest.mark.parametrize(
    ("name", "part", "what", "fix"),
    [
        ("zed", "quantiser", "there is no part `quantiser`", "did you mean `quantizer`?"),
        ("Zed_Plugin", "gate", "`Zed_Plugin` cannot name a package", "as in `zed-plugin`"),
        ("../zed", "gate", "`../zed` cannot name a package", "as in `zed`"),
        ("json", "gate", "`json` can be imported already", "as in `json-tunewright`"),
        ("lambda", "gate", "`lambda` is a word of Python", "as in `lambda-tunewright`"),
        ("tunewright-threshold", "gate", "`gate/threshold` is brought by tunewright already", "another name"),
        ("basics-tunewright", "gate", "the plugin `basics` is brought by tunewright already", "another name"),
    ],
)
def test_a_name_that_would_not_work_is_refused_before_anything_is_written(tmp_path, name, part, what, fix):
    with pytest.raises(BadInput) as caught:
        new_plugin(name, part, tmp_path / "here", Host())
    assert what in caught.value.message
    assert fix in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "zed").mkdir()
    command = [str(Path(sys.executable).with_name("tunewright")), "plugins", "new", "zed", "--part", "gate"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, list((tmp_path / "zed").iterdir())) == (2, [])
    assert "zed is there already" in done.stderr
    other = subprocess.run([*command, "--out", "other"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert other.returncode == 0
    assert (tmp_path / "other/zed/zed/gate.py").is_file()
    assert "other/zed brings the gate `zed`" in other.stdout
