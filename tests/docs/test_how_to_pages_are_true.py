"""The how-to pages on trainings: their specs are valid, their commands do what is shown, their tables hold.

A fence `yaml client.yaml` is the page's spec; one without a name is a change of it. Beside the spec lie the rows that
the pages speak of.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest
import typer
from shown import agrees, commands

from tunewright.cli.main import app
from tunewright.host import Host
from tunewright.parts import Cap, Facts
from tunewright.pipeline import rehearse
from tunewright.pipeline.certificate import NEAR, Answers, certificate
from tunewright.project import Project
from tunewright.spec.document import parse
from tunewright.store.checkpoints import KEPT
from tunewright_endpoint import client
from tunewright_peft.tuners import REFUSED
from tunewright_suites.files import load
from tunewright_suites.forms import LIMITS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "how-to"
NAMES = (
    "train-in-stages", "interrupt-and-resume", "rows-of-every-kind", "choose-an-adapter", "quantize",
    "track-a-training", "export-a-model", "ask-a-served-model", "engines", "public-benchmarks", "evaluate",
    "compare-runs",
)  # fmt: skip
PAGES = {name: (FOLDER / f"{name}.md").read_text("utf-8") for name in NAMES}
FENCE = re.compile(r"^( *)```(\w+) ?(.*)\n((?:(?!\1```).*\n)*)\1```$", re.MULTILINE)
RUN_HERE = ("tunewright validate", "tunewright data show")
QUEUES = ("repair", "delivery", "billing")


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture
def folder(tmp_path, cache, monkeypatch):
    """The files that the pages' specs name."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 2048}))
    for name in ("tokenizer.json", "model.safetensors"):
        (base / name).touch()
    (tmp_path / "acme-support-1.0.0").mkdir()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "billing-1.0.0").mkdir()
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "target_modules": ["q_proj"]}
    (tmp_path / "billing-1.0.0/adapter_config.json").write_text(json.dumps(plain))
    head, days = "text,queue,customer,day", [f"2026-{1 + n // 28:02}-{1 + n % 28:02}" for n in range(120)]
    rows = [f"message {n} about {QUEUES[n % 3]},{QUEUES[n % 3]},customer {n // 4},{days[n]}" for n in range(120)]
    (tmp_path / "train.csv").write_text("\n".join([head, *rows, ""]))
    (tmp_path / "test.csv").write_text(f"{head}\nthe pump is loud,repair,customer 99,2026-12-01\n")
    faq = [{"text": f"question {n}", "queue": QUEUES[n % 3], "customer": f"reader {n}", "day": days[n]}
           for n in range(40)]  # fmt: skip
    pair = {"prompt": "the lamp is dark", "chosen": "repair", "rejected": "delivery"}
    for name, found in {
        "faq": faq, "manuals": [{"text": "the lamp has a fuse"}], "pairs": [pair],
        "pairs-test": [{**pair, "prompt": "the pump is loud"}],
        "mine": [{"question": "how long is the guarantee?", "answer": "24 months"}],
    }.items():  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page, kind):
    """(info, text) of each block of a kind."""
    for indent, language, info, body in FENCE.findall(PAGES[page]):
        if language == kind:
            yield info, "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))


def table(page, first):
    """The rows of the table whose first column is called so, each by its cells."""
    lines = PAGES[page].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def put(page, folder):
    """Write the page's spec."""
    (spec,) = [text for info, text in blocks(page, "yaml") if info == "client.yaml"]
    (folder / "client.yaml").write_text(spec)
    return folder / "client.yaml"


@pytest.mark.parametrize("page", NAMES)
def test_the_spec_is_valid_and_so_is_every_change_of_it(page, folder, host):
    spec = put(page, folder)
    assert Project(spec, host=host).validate() == []
    for info, text in blocks(page, "yaml"):
        if not info:
            (folder / "changed.yaml").write_text(f"extends: client.yaml\n{text}")
            assert Project(folder / "changed.yaml", host=host).validate() == [], text


@pytest.mark.parametrize("page", NAMES)
def test_every_command_does_what_is_shown_or_is_at_least_there(page, folder):
    put(page, folder)
    for _, text in blocks(page, "console"):
        for command, shown in commands(text):
            if command.startswith(RUN_HERE):
                assert agrees(shown, said(command, folder)), said(command, folder)
            elif command.startswith("tunewright"):
                name, *words = shlex.split(command)[1:]
                typer.main.get_command(app).get_command(None, name).make_context(name, words)


def said(command, folder):
    environment = {
        **os.environ,
        "COLUMNS": "200",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    words = ["/bin/sh", "-c", command]
    done = subprocess.run(words, text=True, cwd=folder, env=environment, check=False, capture_output=True)
    return f"{done.stdout}{done.stderr}"


def test_a_row_that_is_shown_is_one_of_its_file(folder):
    ((_, row),) = blocks("train-in-stages", "json")
    assert row == (folder / "pairs.jsonl").read_text()


def test_an_own_benchmarks_row_is_one_of_its_file(folder):
    ((_, row),) = blocks("evaluate", "json")
    assert row == (folder / "mine.jsonl").read_text()


def test_every_metric_and_every_form_is_listed(folder, host):
    metrics = host.backend("evaluator", "heldout").Options.model_fields["metrics"].annotation
    assert [cells[0].strip("`") for cells in table("evaluate", "metric")] == list(get_args(get_args(metrics)[0]))
    assert {cells[0].strip("`") for cells in table("evaluate", "form")} == set(LIMITS)
    assert f"{LIMITS['choice']} tokens for a letter, {max(LIMITS.values())} for an object" in PAGES["evaluate"]


def test_the_suite_that_is_shown_is_a_suite(folder):
    _, shown = next(blocks("evaluate", "text"))
    card, items = shown.removeprefix("desk/suite.yaml\n").split("desk/suite.jsonl\n")
    (folder / "desk").mkdir()
    (folder / "desk" / "suite.yaml").write_text(textwrap.dedent(card))
    (folder / "desk" / "suite.jsonl").write_text(textwrap.dedent(items))
    assert [line.id for _, line in load(folder / "desk", "path").lines] == ["desk-1"]


def test_the_stages_make_the_steps_that_are_listed(folder, host):
    ((_, listed),) = blocks("train-in-stages", "text")
    plan = Project(put("train-in-stages", folder), host=host).plan()
    assert [step.name for step in plan.steps] == listed.split()


def test_the_numbers_of_a_resume_are_those_of_the_code(host):
    page = " ".join(PAGES["interrupt-and-resume"].split())
    options = host.backend("trainer", "sft").Options(kind="sft")
    assert options.checkpoint_every is None
    for sentence in (
        f"a checkpoint is committed every {options.checkpoint_minutes:g} minutes",
        f"The newest {KEPT} are kept",
        f"killed at step {rehearse.KILLED_AFTER}, with SIGKILL",
        f"compared after step {rehearse.STOPPED_AFTER}",
    ):
        assert sentence in page
    steps = f"taken up at step {rehearse.KILLED_AFTER}, compared after step {rehearse.STOPPED_AFTER}"
    assert f"{steps}: … files, all equal" in page


def test_a_training_goes_on_under_other_checkpoint_options(folder, host):
    spec = put("interrupt-and-resume", folder)
    other = Project(spec, ["trainer.checkpoint_every=7", "trainer.checkpoint_minutes=1"], host)
    assert other.plan().keys["train"] == Project(spec, host=host).plan().keys["train"]


def test_every_source_and_every_format_is_listed_with_what_it_makes(host):
    sources = [cells[0].strip("`") for cells in table("rows-of-every-kind", "kind")]
    assert sorted(sources) == sorted(host.kinds("data_source"))
    start = PAGES["rows-of-every-kind"].index("## Formats")
    formats = re.findall(r"^\| `(\w+)` \| (\w+) \| `(\w+)` \|", PAGES["rows-of-every-kind"][start:], re.MULTILINE)
    assert sorted(kind for kind, *_ in formats) == sorted(host.kinds("prompt_format"))
    for kind, makes, trainer in formats:
        assert host.backend("prompt_format", kind).makes == makes
        assert makes in host.backend("trainer", trainer).consumes


def test_what_an_adapter_can_do_is_what_it_says_of_itself(host):
    nf4, fp4, int8, plain = (host.make("quantizer", {"kind": kind}).offers() for kind in ("nf4", "fp4", "int8", "none"))
    assert nf4 == fp4
    over = {(True, True): "yes", (False, True): "no", (True, False): "only", (False, False): "no"}
    found = set()
    for cells in table("choose-an-adapter", "adapter"):
        written = cells[0].strip("`")
        part = parse(f"adapter: {written}", "page", ROOT).data["adapter"]
        backend = host.make("adapter", {"kind": part} if isinstance(part, str) else dict(part))
        found.add(backend.kind)
        caps = [need.cap for need in backend.needs() if need.part == "quantizer"]
        fits = [over[set(caps) <= packed, set(caps) <= plain] for packed in (nf4, int8)]
        merges, loads = ("yes" if cap in backend.offers() else "no" for cap in (Cap.MERGES, Cap.VLLM))
        assert cells[1:] == [merges, *fits, loads], written
    assert found == set(host.kinds("adapter"))


def test_every_type_of_peft_that_is_refused_is_listed_with_its_reason():
    listed = {
        kind: cells[1] for cells in table("choose-an-adapter", "type") for kind in re.findall(r"`(\w+)`", cells[0])
    }
    assert listed == REFUSED


def test_every_quantizer_is_listed_with_the_options_it_has(host):
    listed = {cells[0].strip("`"): cells[-1] for cells in table("quantize", "kind")}
    assert sorted(listed) == sorted(host.kinds("quantizer"))
    for kind, options in listed.items():
        fields = set(host.backend("quantizer", kind).Options.model_fields) - {"kind"}
        assert set(re.findall(r"`(\w+)`", options)) == fields


def test_what_was_measured_is_of_every_quantizer(host):
    measured = [cells[0].strip("`") for cells in table("quantize", "quantization")]
    kinds = [raw["kind"] for raw in (parse(f"q: {cell}", "page", ROOT).data["q"] if "{" in cell else {"kind": cell}
                                     for cell in measured)]  # fmt: skip
    assert set(kinds) == set(host.kinds("quantizer"))
    for raw in (parse(f"q: {cell}", "page", ROOT).data["q"] for cell in measured if "{" in cell):
        host.make("quantizer", dict(raw))


def test_the_learning_rates_are_those_that_the_trainers_choose(host):
    rates = {
        cells[0].strip("`"): [float(cell) for cell in cells[1:]] for cells in table("choose-an-adapter", "trainer")
    }
    assert sorted(rates) == sorted(host.kinds("trainer"))
    for kind, expected in rates.items():
        trainer = host.make("trainer", {"kind": kind})
        offers = ({"adapter": frozenset({Cap.ADAPTS})}, {"adapter": frozenset()})
        chosen = [trainer.derive(Facts(offers=offer))["learning_rate"].value for offer in offers]
        assert chosen == pytest.approx(expected)


def test_every_exporter_is_listed_and_so_is_every_number_of_a_form(host):
    assert sorted(cells[0].strip("`") for cells in table("export-a-model", "kind")) == sorted(host.kinds("exporter"))
    nothing = Answers(())
    keys = {*certificate(nothing, nothing, None, 0), "bytes", "identity", "tokens_per_second", "peak_rss_bytes"}
    assert {cells[0].strip("`") for cells in table("export-a-model", "key")} == keys


def test_every_engine_is_listed_and_each_option_of_llama_cpp(host):
    assert sorted(cells[0].strip("`") for cells in table("engines", "engine")) == sorted(host.kinds("engine"))
    options = host.backend("engine", "llama-cpp").Options.model_fields.keys() - {"kind"}
    assert {cells[0].strip("`") for cells in table("engines", "option")} == options


def test_every_tracker_is_listed_and_each_option_that_is_named_is_one(host):
    listed = {cells[0].strip("`"): " ".join(cells[1:]) for cells in table("track-a-training", "kind")}
    assert sorted(listed) == sorted(host.kinds("tracker"))
    for kind, text in listed.items():
        options = host.backend("tracker", kind).Options.model_fields
        named = set(re.findall(r"`(dir|uri|token|mode|api_key)\b", text))
        assert named <= options.keys()
        assert ("dir" in options) == ("dir" in named)


def test_a_served_model_is_asked_by_every_option_that_is_listed(host):
    options = host.backend("engine", "endpoint").Options.model_fields
    listed = [cells[0].strip("`") for cells in table("ask-a-served-model", "option")]
    assert listed == [name for name in options if name != "kind"]
    ways = [cells[0].strip("`") for cells in table("ask-a-served-model", "way")]
    assert ways == list(get_args(options["prompts"].annotation))
    page = " ".join(PAGES["ask-a-served-model"].split())
    assert f"is asked up to {client.TRIES} times" in page
    assert f"within a {'thousandth' if NEAR == 1e-3 else '?'}" in page


def test_the_readme_leads_to_each_page():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in NAMES if f"(docs/how-to/{name}.md)" not in readme] == []
