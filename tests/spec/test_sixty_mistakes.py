"""Sixty and more mistakes, each made in a good spec: file, line, column, code and fix are those a person would want.

A mistake is an edit of `GOOD`, told by its old and new text; what is expected is `line:column code fix`.
"""

from __future__ import annotations

import pytest

from tunewright.host import Host
from tunewright.project import Project

GOOD = """\
apiVersion: tunewright/v1
name: desk
model:
  source: {kind: pypi}
  dtype: bf16
quantization: {kind: nf4, double_quant: true}
adapter:
  kind: lora
  r: 16
  alpha: 32
  targets: attention+mlp
data:
  format:
    kind: chat
    system: Route the message.
    prompt: "{text}"
    completion: "{queue}"
  train:
    - {kind: csv, path: train.csv}
    - {kind: jsonl, path: more.jsonl}
  test: [{kind: csv, path: test.csv, where: {queue: [returns, billing]}}]
trainer:
  kind: sft
  epochs: 2
  batch_size: 8
  learning_rate: 5.0e-4
  checkpointing: false
  args: {adam_beta2: 0.98}
evals: [{kind: heldout, metrics: [exact_match]}]
gates: [{kind: threshold, metric: heldout.exact_match, at_least: 0.6}]
exports: []
package: {version: 1.0.0, license: Apache-2.0}
seed: 0
"""
ROWS = "text,queue\nmy parcel came broken,returns\nwhy two charges,billing\n"

# how YAML is broken
SYNTAX = [
    ("  targets: attention+mlp", "  targets: [attention",
     "12:5 yaml-syntax close the `[` of line 11, or put a comma before this"),
    ('prompt: "{text}"', 'prompt: "{text}', "16:13 yaml-syntax close it in its line"),
    ("name: desk", "name: 'desk", "2:7 yaml-syntax close it"),
    ("  dtype: bf16", "\tdtype: bf16", "5:1 yaml-syntax indent with spaces, not tabs"),
    ("    system: Route the message.", "    system: Route: the message.",
     "15:18 yaml-syntax put a text that holds `: ` in quotes, or indent the key as its neighbours"),
    ('prompt: "{text}"', "prompt: {text} please",
     "16:20 yaml-syntax indent as its neighbours; put a text that starts with `{`, `[` or a quote in quotes"),
    ("system: Route the message.", "system: @desk", "15:13 yaml-syntax put the text in quotes"),
    ("  alpha: 32", "   alpha: 32",
     "10:9 yaml-syntax put a text that holds `: ` in quotes, or indent the key as its neighbours"),
    ("seed: 0", "seed: *zero", "33:7 yaml-syntax name it before, or write the value here"),
    ("seed: 0", "---\nseed: 0", "33:1 yaml-syntax a spec is one document a file"),
    ("exports: []", "exports: - a", "31:10 yaml-syntax put a list in its own lines, or in `[…]`"),
    ("name: desk", "name: de\x07sk", "2:9 yaml-syntax remove it"),
    ("seed: 0", "seed: !int 0", "33:7 yaml-tag write plain values"),
    ("exports: []", "<<: {seed: 1}", "31:1 unknown-key write the keys out, or use `extends:`"),
    ("exports: []", "name: other", "31:1 duplicate-key keep one"),
    ("  alpha: 32", "  alpha: 32\n  alpha: 16", "11:3 duplicate-key keep one"),
    ("exports: []", "? [exports]\n: 1", "31:3 wrong-type"),
    ("seed: 0", f"seed: {'1' * 200}", "33:7 bad-value"),
    ("license: Apache-2.0", 'license: "a\\0"', "32:36 bad-value"),
]  # fmt: skip

# keys and values of the spec itself
TOP = [
    ("seed: 0", "sede: 0", "33:1 unknown-key did you mean `seed`?"),
    ("exports: []", "epochs: 2", "31:1 unknown-key here it is called `trainer.epochs`"),
    ("exports: []", "base_model: org/name", "31:1 unknown-key here it is called `model.source`"),
    ("exports: []", "load_in_4bit: true", "31:1 unknown-key here it is written `quantization: nf4`"),
    ("exports: []", "wandb_project: x", "31:1 unknown-key here it is called `project`, in the entries of `trackers`"),
    ("  dtype: bf16", "  torch_dtype: bf16", "5:3 unknown-key here it is called `dtype`"),
    ("  dtype: bf16", "  dtype: bfloat16", "5:10 bad-value did you mean `bf16`?"),
    ("  dtype: bf16", "  dtype: 16", "5:10 bad-value known: bf16, fp16, fp32"),
    ("name: desk\n", "", "1:1 missing-key add `name:`"),
    ("apiVersion: tunewright/v1\n", "", "1:1 missing-key add `apiVersion: tunewright/v1`"),
    ("  source: {kind: pypi}\n", "", "3:1 missing-key add `source:`"),
    ("tunewright/v1", "tunewright/v2", "1:13 unknown-api-version known: `tunewright/v1`"),
    ("apiVersion: tunewright/v1", "apiVersion: 1", "1:13 unknown-api-version known: `tunewright/v1`"),
    ("apiVersion: tunewright/v1", "apiVersion:", "1:1 bad-value known: tunewright/v1"),
    ("name: desk", "name: Desk 7", "2:7 bad-value"),
    ("name: desk", "name: 7", '2:7 wrong-type put it in quotes: `"7"`'),
    ("version: 1.0.0", "version: 1.10", '32:20 wrong-type put it in quotes: `"1.10"`'),
    ("version: 1.0.0", "version: one", "32:20 bad-value"),
    ("seed: 0", "seed: -1", "33:7 out-of-range"),
    ("seed: 0", "seed: true", "33:7 wrong-type"),
    ("seed: 0", 'seed: "7"', "33:7 wrong-type write it without quotes"),
    ("seed: 0", "seed:", "33:1 wrong-type write a value, or leave `seed` out: it is `0` then"),
    ("exports: []", "exports: {kind: adapter}", "31:10 wrong-type put it in a list: `[…]`"),
    ("exports: []", "exports: adapter", "31:10 wrong-type put it in a list: `[…]`"),
    ("package: {version: 1.0.0, license: Apache-2.0}", "package: [1]", "32:10 wrong-type"),
    ("package: {version: 1.0.0, license: Apache-2.0}", "package: 1.0.0", "32:10 wrong-type"),
    ("license: Apache-2.0", "licence: Apache-2.0", "32:27 unknown-key here it is called `license`"),
]  # fmt: skip

# what stands where a part belongs
KINDS = [
    ("{kind: pypi}", "{kind: pypy}", "4:18 unknown-kind did you mean `pypi`?"),
    ("{kind: pypi}", "{type: pypi}", "4:3 missing-key here `type` is called `kind`"),
    ("{kind: nf4, double_quant: true}", "bnb_4bit", "6:15 unknown-kind here it is called `nf4`"),
    ("{kind: nf4, double_quant: true}", "{kind: nf5}", "6:22 unknown-kind did you mean `nf4`?"),
    ("{kind: nf4, double_quant: true}", "{double_quant: true}", "6:1 missing-key add `kind:`"),
    ("{kind: nf4, double_quant: true}", "4", "6:15 wrong-type"),
    ("  kind: lora", "  kind: qlora", "8:9 unknown-kind here it is called `lora`, with `quantization: nf4` beside it"),
    ("  kind: lora", "  kind: null", "8:9 wrong-type write `none`"),
    ("    kind: chat", "    kind: chatml", "14:11 unknown-kind here it is called `chat`"),
    ("{kind: jsonl, path", "{kind: ndjson, path", "20:14 unknown-kind here it is called `jsonl`, one object a line"),
    ("    - {kind: csv, path: train.csv}", "    - train.csv", "19:7 unknown-kind write `{kind: csv, path: train.csv}`"),
    ("  kind: sft", "  kind: stf", "23:9 unknown-kind did you mean `sft`?"),
    ("  kind: sft\n", "", "22:1 missing-key add `kind:`"),
    ("{kind: heldout, metrics", "{kind: holdout, metrics", "29:16 unknown-kind here it is called `heldout`"),
    ("{kind: threshold, metric", "{kind: minimum, metric", "30:16 unknown-kind here it is called `threshold`"),
    ("exports: []", "exports: [3]", "31:11 wrong-type"),
    ("  dtype: bf16", "  loader: unsloth", "5:11 unknown-kind here it is called `transformers`"),
]  # fmt: skip

# options of parts
OPTIONS = [
    ("  learning_rate: 5.0e-4", "  learing_rate: 5.0e-4", "26:3 unknown-key did you mean `learning_rate`?"),
    ("  epochs: 2", "  num_train_epochs: 2", "24:3 unknown-key here it is called `epochs`"),
    ("  batch_size: 8", "  per_device_train_batch_size: 8", "25:3 unknown-key here it is called `batch_size`"),
    ("  alpha: 32", "  lora_alpha: 32", "10:3 unknown-key here it is called `alpha`"),
    ("  alpha: 32", "  use_rslora: true", "10:3 unknown-key here it is called `rslora`"),
    ("double_quant: true", "bnb_4bit_use_double_quant: true", "6:27 unknown-key here it is called `double_quant`"),
    ("  batch_size: 8", "  lora_r: 8", "25:3 unknown-key here it is called `adapter.r`"),
    ("  batch_size: 8", "  packing: true", "25:3 unknown-key remove it: only `cpt` packs rows, and does so by default"),
    ("path: train.csv", "file: train.csv", "19:19 unknown-key here it is called `path`"),
    ("path: train.csv", "file: train.csv", "19:7 missing-key add `path:`"),
    ("    completion:", "    output:", "17:5 unknown-key here it is called `completion`"),
    ("    completion:", "    output:", "13:3 missing-key add `completion:`"),
    ("at_least: 0.6", "minimum: 0.6", "30:56 unknown-key here it is called `at_least`"),
    ("  learning_rate: 5.0e-4", "  learning_rate: fast", "26:18 wrong-type"),
    ("  learning_rate: 5.0e-4", '  learning_rate: "5.0e-4"', "26:18 wrong-type write it without quotes"),
    ("  learning_rate: 5.0e-4", "  learning_rate: 2026-01-01", "26:18 wrong-type"),
    ("  learning_rate: 5.0e-4", "  learning_rate:", "26:3 wrong-type write a value, or leave `learning_rate` out"),
    ("  learning_rate: 5.0e-4", "  learning_rate: .nan", "26:18 out-of-range"),
    ("  learning_rate: 5.0e-4", "  learning_rate: true", "26:18 wrong-type"),
    ("  batch_size: 8", "  batch_size: 0", "25:15 out-of-range"),
    ("  batch_size: 8", "  batch_size: 8.5", "25:15 wrong-type"),
    ("  checkpointing: false", "  checkpointing: off", "27:18 wrong-type write `false`"),
    ("  r: 16", "  r: -4", "9:6 out-of-range"),
    ('prompt: "{text}"', "prompt: {text}", '16:13 wrong-type put it in quotes: `"{text}"`'),
    ('prompt: "{text}"', 'prompt: "{text"', "16:13 bad-value"),
    ('prompt: "{text}"', "prompt: Route it", "16:13 bad-value"),
    ("path: train.csv", "path: 5", '19:25 wrong-type put it in quotes: `"5"`'),
    ("metrics: [exact_match]", "metrics: [exact_mach]", "29:35 bad-value did you mean `exact_match`?"),
    ("metrics: [exact_match]", "metrics: exact_match", "29:34 wrong-type put it in a list: `[…]`"),
    ("path: test.csv", "path: test.csv, sample: 1, limit: 1", "21:10 bad-value"),
    ("where: {queue: [returns, billing]}", "where: [queue]", "21:45 wrong-type"),
]  # fmt: skip

# what only the whole shows: files, columns, scores, names, arguments
WHOLE = [
    ("path: train.csv", "path: trian.csv", "19:25 file-missing"),
    ("path: more.jsonl", "path: ../nowhere/more.jsonl", "20:27 file-missing"),
    ("{queue: [returns", "{qeue: [returns", "21:46 missing-column did you mean `queue`?"),
    ('completion: "{queue}"', 'completion: "{label}"', "17:17 missing-column known: queue, text"),
    ("metric: heldout.exact_match", "metric: heldout.macro_f1",
     "30:35 unknown-metric did you mean `heldout.exact_match`?"),
    ("evals: [{kind: heldout", "evals: [{kind: heldout}, {kind: heldout", "29:33 duplicate-name give one a `name:`"),
    ("  test: [{kind: csv, path: test.csv, where: {queue: [returns, billing]}}]\n", "",
     "28:8 no-test-data add `data.test:`"),
    ("adam_beta2: 0.98", "learning_rate: 0.1", "28:10 argument-taken set `learning_rate` instead"),
    ("adam_beta2: 0.98", "adam_bta2: 0.98", "28:10 unknown-argument did you mean `adam_beta2`?"),
    ("adam_beta2: 0.98", "save_steps: 10", "28:10 argument-unused"),
    ("adam_beta2: 0.98", "deepspeed: x.json", "28:10 unsupported-argument"),
    ("adam_beta2: 0.98", "adam_beta2: .inf", "28:22 bad-value"),
    ("  kind: lora\n  r: 16\n  alpha: 32\n  targets: attention+mlp", "  kind: none",
     "8:9 base-not-trainable train an adapter, or drop the quantization"),
]  # fmt: skip

MISTAKES = [*SYNTAX, *TOP, *KINDS, *OPTIONS, *WHOLE]


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text(ROWS)
    (tmp_path / "more.jsonl").write_text('{"text": "refund my order", "queue": "returns"}\n')
    return tmp_path


def problems(folder, host, text, *overrides):
    (folder / "desk.yaml").write_text(text)
    found = Project.from_spec(folder / "desk.yaml", overrides=overrides, host=host).validate()
    return [(p.position.file, f"{p.position.line}:{p.position.column} {p.code} {p.suggestion}".rstrip()) for p in found]


def test_the_spec_that_they_are_made_in_is_good(folder, host):
    assert problems(folder, host, GOOD) == []


def test_there_are_sixty_and_each_is_another_one():
    assert len({(new, expected) for _, new, expected in MISTAKES}) == len(MISTAKES) >= 60


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=lambda value: value[:40])
def test_a_mistake_is_found_in_its_place_with_its_fix(folder, host, old, new, expected):
    assert GOOD.count(old) == 1
    assert ("desk.yaml", expected) in problems(folder, host, GOOD.replace(old, new))


BASE = GOOD.replace("seed: 0\n", "")


@pytest.mark.parametrize(
    ("base", "child", "expected"),
    [
        (BASE.replace("epochs: 2", "epcohs: 2"), "seed: 1", ("base.yaml", "24:3 unknown-key did you mean `epochs`?")),
        (BASE, "trainer: {epochs: two}", ("desk.yaml", "2:19 wrong-type")),
        (BASE, "trainer: {kind: sft, epochs: 1}\nsede: 1", ("desk.yaml", "3:1 unknown-key did you mean `seed`?")),
        (BASE.replace("train.csv", "trian.csv"), "seed: 1", ("base.yaml", "19:25 file-missing")),
        (BASE.replace("name: desk", "name: [desk"), "seed: 1",
         ("base.yaml", "3:6 yaml-syntax close the `[` of line 2, or put a comma before this")),
        (BASE.replace("name: desk\n", ""), "seed: 1", ("desk.yaml", "1:1 missing-key add `name:`")),
        ("extends: desk.yaml\n", "seed: 1", ("base.yaml", "1:10 extends-cycle")),
    ],
)  # fmt: skip
def test_a_mistake_in_an_extended_file_stands_in_the_file_that_made_it(folder, host, base, child, expected):
    (folder / "base.yaml").write_text(base)
    assert expected in problems(folder, host, f"extends: base.yaml\n{child}\n")


@pytest.mark.parametrize(
    ("extends", "expected"),
    [
        ("base.yaml", "1:10 file-missing"),
        ("desk.yaml", "1:10 extends-cycle"),
        ("[a.yaml, b.yaml]", "1:10 wrong-type"),
        ("", "1:1 wrong-type"),
        (".", "1:1 file-unreadable name a spec's file"),
    ],
)
def test_what_cannot_be_extended(folder, host, extends, expected):
    found = problems(folder, host, f"extends: {extends}\n{GOOD}")
    assert expected in [problem for _, problem in found]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.epochs=two", "1:16 wrong-type"),
        ("trainer.epohcs=2", "1:1 unknown-key did you mean `epochs`?"),
        ("trainer.lr=2", "1:1 unknown-key here it is called `learning_rate`"),
        ("evals.3.name=x", "1:1 bad-override"),
        ("trainer.epochs", "1:1 bad-override"),
        ("quantization=nf5", "1:14 unknown-kind did you mean `nf4`?"),
        ("data.train.0.path=gone.csv", "1:19 file-missing"),
        ("trainer.epochs=", "1:1 wrong-type write a value, or leave `epochs` out: it is `1.0` then"),
        ("seed=null", "1:6 wrong-type write a value, or leave `seed` out: it is `0` then"),
        ("gates=null", "1:7 wrong-type write a value, or leave `gates` out"),
        ("model.dtype=null", "1:13 bad-value known: bf16, fp16, fp32"),
        ("name=null", "1:6 wrong-type write a value"),
        ("trainer.args={deepspeed: x}", "1:15 unsupported-argument"),
        ("seed=[1", "1:6 yaml-syntax close it"),
    ],
)
def test_a_mistake_on_the_command_line_stands_in_the_override(folder, host, override, expected):
    assert (f"--set {override}", expected) in problems(folder, host, GOOD, override)


def test_null_takes_an_option_out_on_the_command_line(folder, host):
    """A run of a few steps over a spec that counts epochs: the one of two that is in the way can be taken out."""
    steps, out = "trainer.max_steps=5", "trainer.epochs=null"
    ((file, problem),) = problems(folder, host, GOOD, steps)
    assert (file, problem.split()[:2]) == ("desk.yaml", ["24:3", "argument-unused"])
    assert f"`--set {out}`" in problem
    assert problems(folder, host, GOOD, steps, out) == []
    resolved = Project.from_spec(folder / "desk.yaml", overrides=[steps, out], host=host).resolve()
    assert "epochs" not in resolved.trainings[0].trainer.options.model_fields_set
    # in a file a key without a value is a slip as ever
    found = problems(folder, host, GOOD.replace("epochs: 2", "epochs: null"))
    assert [problem.split()[:2] for _, problem in found] == [["24:11", "wrong-type"]]
    # what has no default cannot be taken out
    found = problems(folder, host, GOOD, "data.train.0.path=null")
    assert [problem.split()[1] for _, problem in found] == ["missing-key"]


def test_null_stays_a_value_where_it_is_one(folder, host):
    given = ("data.format={kind: alpaca}", "data.format.input=null")
    resolved = Project.from_spec(folder / "desk.yaml", overrides=given, host=host)
    (folder / "desk.yaml").write_text(GOOD)
    (folder / "train.csv").write_text("instruction,output\na,b\n")
    (folder / "test.csv").write_text("instruction,output\na,b\n")
    found = [problem.message for problem in resolved.validate()]
    assert not [message for message in found if "`input`" in message]


def test_all_mistakes_of_a_file_come_at_once_and_in_order(folder, host):
    text = (
        GOOD.replace("epochs: 2", "epcohs: 2")
        .replace("seed: 0", "seed: 0\nseed: 1")
        .replace("kind: lora", "kind: lroa")
    )
    text = text.replace("dtype: bf16", "dtype: bf17").replace("name: desk", "name: Desk")
    assert [problem.split()[:2] for _, problem in problems(folder, host, text)] == [
        ["2:7", "bad-value"], ["5:10", "bad-value"], ["8:9", "unknown-kind"], ["24:3", "unknown-key"],
        ["34:1", "duplicate-key"],
    ]  # fmt: skip


@pytest.mark.parametrize("mistake", ["learning_rate: 0." + "1" * 200, 'learning_rate: "\\0"', "learning_rate: !x 1"])
def test_a_value_that_cannot_be_read_is_one_mistake(folder, host, mistake):
    (problem,) = problems(folder, host, GOOD.replace("learning_rate: 5.0e-4", mistake))
    assert problem[1].startswith("26:18 ")
