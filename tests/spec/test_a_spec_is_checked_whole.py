"""`validate`: every problem at once, each with its place, code and fix; and nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunewright.project import Project

QUICK = "specs/quickstart/quickstart.yaml"


def problems(spec, host, *edits):
    text = spec.read_text()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    spec.write_text(text)
    return [
        (p.position.line, p.position.column, p.code, p.suggestion)
        for p in Project.from_spec(spec, host=host).validate()
    ]


def test_a_good_spec_has_no_problems(fake_spec, fake_host):
    assert problems(fake_spec, fake_host) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("learning_rate: 0.5", "learing_rate: 0.5", (10, 23, "unknown-key", "did you mean `learning_rate`?")),
        ("learning_rate: 0.5", "lr: 0.5", (10, 23, "unknown-key", "here it is called `learning_rate`")),
        ("learning_rate: 0.5", "learning_rate: fast", (10, 38, "wrong-type", "")),
        ("learning_rate: 0.5", "learning_rate: 0", (10, 38, "out-of-range", "")),
        ("learning_rate: 0.5", "learning_rate: null", (10, 38, "wrong-type", None)),
        ("trainer: {kind: fake", "trainer: {kind: faek", (10, 17, "unknown-kind", "did you mean `fake`?")),
        ("trainer: {kind: fake, learning_rate: 0.5}", "trainer: 3", (10, 10, "wrong-type", "")),
        ("adapter: {kind: fake}\n", "", (1, 1, "missing-key", "add `adapter:`")),
        ("path: test.csv", "path: tset.csv", (9, 29, "file-missing", "")),
        ("path: test.csv", "path: test.csv, where: {qeue: x}", (9, 47, "missing-column", "did you mean `queue`?")),
        ("path: test.csv", "path: test.csv, sample: 1, limit: 1", (9, 10, "bad-value", "")),
        ("system: Route the message.", "answer: label", (7, 32, "missing-column", None)),
        ("metric: fake.right", "metric: fake.rihgt", (12, 30, "unknown-metric", "did you mean `fake.right`?")),
        ("evals: [{kind: fake}]", "evals: [{kind: fake}, {kind: fake}]", (11, 30, "duplicate-name", None)),
        ("tunewright/v1", "tunewright/v9", (1, 13, "unknown-api-version", "known: `tunewright/v1`")),
        ("name: acme", "name: Acme Inc", (2, 7, "bad-value", "")),
        ("seed: 7", "seed: -1", (13, 7, "out-of-range", "")),
        ("seed: 7", "sede: 7", (13, 1, "unknown-key", "did you mean `seed`?")),
        ("train: [{kind: fake, path: train.csv}]", "train: []", (8, 10, "empty-list", "add a source of rows")),
    ],
)
def test_a_mistake_is_found_where_it_stands(fake_spec, fake_host, old, new, expected):
    line, column, code, suggestion = expected
    found = problems(fake_spec, fake_host, (old, new))
    assert (line, column, code) in [one[:3] for one in found]
    if suggestion is not None:
        assert suggestion in [one[3] for one in found if one[2] == code]


def test_all_problems_come_at_once(fake_spec, fake_host):
    found = problems(
        fake_spec, fake_host, ("learning_rate", "learing_rate"), ("seed: 7", "seed: x"), ("path: test", "pth: test")
    )
    assert [one[2] for one in found] == ["missing-key", "unknown-key", "unknown-key", "wrong-type"]


def test_a_capability_that_is_missing_is_a_problem_at_the_part_that_needs_it(fake_spec, fakes):
    from types import SimpleNamespace

    import tunewright_fakes
    from fake_project import FIRST_PARTY
    from tunewright.host import Host, hookimpl

    plugin = SimpleNamespace(
        tunewright_backends=hookimpl(lambda: {"quantizer/frozen": "test_a_spec_is_checked_whole:Frozen"})
    )
    host = Host(blocked=("basics", *FIRST_PARTY[1:]), extra={"frozen": plugin})
    tunewright_fakes.FakeAdapter.needs = lambda self: [tunewright_fakes_need()]
    try:
        found = problems(fake_spec, host, ("quantization: {kind: fake}", "quantization: {kind: frozen}"))
    finally:
        del tunewright_fakes.FakeAdapter.needs
    assert (5, 17, "base-not-trainable") in [one[:3] for one in found]


def tunewright_fakes_need():
    from tunewright.parts import Cap, Need

    return Need("quantizer", Cap.TRAINABLE, "base-not-trainable")


def __getattr__(name):
    if name != "Frozen":
        raise AttributeError(name)
    from tunewright_fakes import FakeQuantizer, KindOnly

    class FrozenOptions(KindOnly):
        kind: str = "frozen"

    class Frozen(FakeQuantizer):
        kind, Options = "frozen", FrozenOptions

        def offers(self):
            return frozenset()

    return Frozen


def test_validate_of_the_quickstart_imports_nothing_heavy():
    program = (
        "import sys; sys.argv = ['tunewright', 'validate', sys.argv[1]]\n"
        "from tunewright.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'bitsandbytes', 'numpy', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, QUICK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("learning_rate: 0.5", "learning_rate: .nan", (10, 38, "out-of-range")),
        ("learning_rate: 0.5", "learning_rate: true", (10, 38, "wrong-type")),
        ("learning_rate: 0.5", "learning_rate: '1'", (10, 38, "wrong-type")),
        ("evals: [{kind: fake}]", "evals: [{kind: fake, name: ../../x}]", (11, 28, "bad-value")),
        ("  test: [{kind: fake, path: test.csv}]\n", "", (10, 8, "no-test-data")),
        ("path: test.csv", "path: ~nobody-here/x.csv", (9, 29, "bad-value")),
        ("path: test.csv", "path: 5", (9, 29, "wrong-type")),
        ("evals: [{kind: fake}]", "evals: [3]", (11, 9, "wrong-type")),
    ],
)
def test_values_that_only_look_right_are_mistakes(fake_spec, fake_host, old, new, expected):
    assert expected in [one[:3] for one in problems(fake_spec, fake_host, (old, new))]


def test_what_is_left_of_a_word_of_another_tool_says_nothing_of_pydantic(fake_spec, fake_host):
    fake_spec.write_text(fake_spec.read_text().replace("path: test.csv", "path: test.csv, where: {queue: [null]}"))
    (found,) = Project.from_spec(fake_spec, host=fake_host).validate()
    assert "union" not in found.message
    assert "function" not in found.message
