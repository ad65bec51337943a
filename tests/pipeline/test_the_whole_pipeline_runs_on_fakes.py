"""From spec to package with every first-party plugin blocked: what is done, what is reused, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.errors import BadInput, EnvironmentFault, Refused, RootLocked, WorkFailed
from tunewright.parts.memory import Harm, Lever
from tunewright.project import Project
from tunewright.store.lock import writer
from tunewright.store.publish import Store

STEPS = [
    "fetch", "prepare", "contamination", "evaluate-base", "train", "evaluate-tuned", "export-adapter", "parity", "gate",
    "report", "package",
]  # fmt: skip


def run(spec, host, out, *overrides):
    return Project.from_spec(spec, overrides=overrides, host=host).run(out).summary


def statuses(summary):
    return {step["name"]: step["status"] for step in summary["steps"]}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def first(fake_spec, fake_host, root):
    return run(fake_spec, fake_host, root)


def test_every_step_is_done_in_order_and_the_gate_passes(first):
    assert [step["name"] for step in first["steps"]] == STEPS
    assert set(statuses(first).values()) == {"done"}
    assert first["status"] == "passed"
    score = first["scores"]["fake.right"]
    assert (score["n"], score["base"], score["tuned"]) == (3, 0.0, 1.0)
    assert first["parity"]["adapter"]["agreement"] == 1.0
    assert all(step["seconds"] >= 0 and step["peak_rss_bytes"] > 1e6 for step in first["steps"])


def test_everything_that_was_made_is_where_the_summary_says(first):
    for path in first["artifacts"].values():
        assert Path(path).is_absolute()
        assert Path(path).exists()
    folder = Path(first["run_dir"])
    assert json.loads((folder / "run.json").read_text()) == first
    assert {"spec.lock.yaml", "plan.json", "events.jsonl", "report.html"} <= {path.name for path in folder.iterdir()}
    assert (folder.parent / "latest").resolve() == folder.resolve()


def test_a_text_may_hold_any_character_that_ends_a_line_somewhere(fake_spec, fake_host, root):
    """Of such characters JSON escapes some and lets U+0085, U+2028 and U+2029 stand: contracts are full of them."""
    for name in ("train.csv", "test.csv"):
        path = fake_spec.parent / name
        ended = path.read_text().replace("my ", "my \x0b\x0c\x1c\x85\u2028\u2029 ")
        assert "\u2028" in ended
        path.write_text(ended, newline="")
    assert run(fake_spec, fake_host, root)["scores"]["fake.right"]["n"] == 3


def test_torch_is_never_imported(fake_spec, fakes, root):
    program = (
        "import sys; from tunewright import Host, Project\n"
        f"Project.from_spec(sys.argv[1], host=Host(blocked={FIRST_PARTY!r})).run(sys.argv[2])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(fake_spec), str(root)], check=True)


def test_a_second_run_redoes_nothing(first, fake_spec, fake_host, root):
    again = run(fake_spec, fake_host, root)
    assert set(statuses(again).values()) == {"cached"}
    assert again["scores"] == first["scores"]


def test_a_training_value_redoes_training_and_what_follows_and_plan_says_so(first, fake_spec, fake_host, root):
    override = "trainer.learning_rate=0.25"
    plan = Project.from_spec(fake_spec, overrides=[override], host=fake_host).plan()
    foretold = set(plan.hits(Store(root)))
    again = statuses(run(fake_spec, fake_host, root, override))
    assert foretold == {"fetch", "prepare", "contamination", "evaluate-base"}
    assert {name for name, status in again.items() if status == "cached"} == foretold


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        ("train.csv", {"fetch", "evaluate-base"}),
        ("test.csv", {"fetch", "prepare", "train", "export-adapter"}),
    ],
)
def test_changed_rows_redo_what_reads_them(first, fake_spec, fake_host, root, edit, kept):
    path = fake_spec.parent / edit
    path.write_text(path.read_text() + "another broken lamp,repair\n")
    again = statuses(run(fake_spec, fake_host, root))
    assert {name for name, status in again.items() if status == "cached"} == kept


def test_a_touched_file_is_a_hit_and_so_is_a_moved_project(first, fake_spec, fake_host, root, tmp_path):
    (fake_spec.parent / "train.csv").touch()
    moved = fake_spec.parent.rename(tmp_path / "elsewhere with a space")
    assert set(statuses(run(moved / fake_spec.name, fake_host, root)).values()) == {"cached"}


def test_an_evaluation_value_does_not_redo_training(first, fake_spec, fake_host, root):
    again = statuses(run(fake_spec, fake_host, root, "evals.0.max_new_tokens=20"))
    assert (again["train"], again["evaluate-base"], again["evaluate-tuned"]) == ("cached", "done", "done")


def test_another_version_of_a_library_is_a_miss(first, fake_spec, fake_host, root, monkeypatch):
    import tunewright.parts.base as base

    monkeypatch.setattr(base, "library_version", lambda name: "99.0")
    again = statuses(run(fake_spec, fake_host, root))
    assert (again["evaluate-base"], again["train"]) == ("cached", "done")


def test_a_failed_gate_fails_the_run_and_makes_no_package(fake_spec, fake_host, root):
    summary = run(fake_spec, fake_host, root, "gates.0.at_least=1.1")
    assert summary["status"] == "failed"
    assert "at least 1.1" in summary["why"]
    assert "package" not in summary["artifacts"]
    assert Path(summary["artifacts"]["report"]).is_file()


def test_a_failed_step_ends_the_run_and_what_was_finished_is_kept(fake_spec, fake_host, root):
    with pytest.raises(WorkFailed, match=r"train.csv:2"):
        run(fake_spec, fake_host, root, "trainer.fail=true")
    summary = json.loads((root / "latest" / "run.json").read_text())
    assert statuses(summary)["train"] == "failed"
    again = statuses(run(fake_spec, fake_host, root))
    assert [again[name] for name in ("fetch", "prepare", "evaluate-base", "train")] == ["cached"] * 3 + ["done"]


def test_weights_gone_from_the_cache_are_fetched_again(first, fake_spec, fake_host, root, cache):
    import shutil

    shutil.rmtree(cache)
    again = statuses(run(fake_spec, fake_host, root))
    assert again.pop("fetch") == "done"
    assert set(again.values()) == {"cached"}


def test_a_flipped_byte_of_the_cached_weights_is_found_before_training(fake_spec, fake_host, root, cache):
    run(fake_spec, fake_host, root)
    (weights,) = cache.rglob("model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    other = root.with_name("other")
    summary = run(fake_spec, fake_host, other)
    assert summary["status"] == "passed"
    assert weights.read_bytes() != bytes(data)  # fetched anew


def test_the_tuned_evaluation_refuses_other_weights(fake_spec, fake_host, root, monkeypatch):
    import tunewright_fakes

    monkeypatch.setattr(tunewright_fakes.FakeAdapter, "attach", lambda self, model, saved: model)
    monkeypatch.setattr(tunewright_fakes.Model, "table", {}, raising=False)
    with pytest.raises(Refused, match="not the trained ones"):
        run(fake_spec, fake_host, root)


def test_an_export_of_another_adapter_is_refused_before_it_is_packaged(fake_spec, fake_host, root, monkeypatch):
    import tunewright_fakes

    export = tunewright_fakes.FakeExporter.export

    def other(self, trained, out):
        form = export(self, trained, out)
        tunewright_fakes.write_safetensors(out / "adapter_model.safetensors", "table", b'{"lamp": {"delivery": 1.0}}')
        return form

    monkeypatch.setattr(tunewright_fakes.FakeExporter, "export", other)
    with pytest.raises(Refused, match="not the trained ones"):
        run(fake_spec, fake_host, root)
    assert not list(root.glob("store/package-*"))


def test_a_second_writer_fails_at_once_and_names_the_holder(fake_spec, fake_host, root):
    import os

    with writer(root), pytest.raises(RootLocked, match=str(os.getpid())):
        run(fake_spec, fake_host, root)


def test_a_row_with_a_broken_mask_stops_before_the_base_is_asked(fake_spec, fake_host, root):
    with pytest.raises(BadInput, match=r"train.csv:2.*over `max_length` 10"):
        run(fake_spec, fake_host, root, "trainer.max_length=10")
    assert not list(root.glob("store/evaluate-base-*"))


def test_events_are_numbered_and_one_stands_for_each_optimizer_step(first):
    lines = [json.loads(line) for line in (Path(first["run_dir"]) / "events.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    training = [line for line in lines if line["event"] == "train"]
    assert len(training) == 6
    assert {"seq", "time", "event", "step", "loss", "learning_rate", "tokens_per_second"} <= set(training[0])
    assert training[0]["step"] == "train"


def test_a_listener_that_raises_cannot_hurt_a_run(fake_spec, fakes, root):
    from types import ModuleType

    from tunewright.host import Host, hookimpl

    def listen(event):
        raise ValueError("down")

    noisy = ModuleType("noisy")
    noisy.tunewright_run_event = hookimpl(listen)
    host = Host(blocked=FIRST_PARTY, extra={"noisy": noisy})
    summary = run(fake_spec, host, root)
    assert summary["status"] == "passed"
    assert "listener-failed" in (Path(summary["run_dir"]) / "events.jsonl").read_text()


def test_the_lock_holds_every_default_and_pin_and_no_path_of_this_machine(first, fake_spec):
    from ruamel.yaml import YAML

    text = (Path(first["run_dir"]) / "spec.lock.yaml").read_text()
    lock = YAML(typ="safe").load(text)
    kept = {"checkpoint_every": None, "checkpoint_minutes": 10.0}
    options = {"kind": "fake", "args": {}, "max_length": 1024, "learning_rate": 0.5, "fail": False}
    assert lock["trainer"] == {**options, **kept}
    assert lock["locked"]["model"] == {"sha256": "0" * 64}
    assert lock["locked"]["plugins"] == {"tunewright-fakes": "1.0"}
    assert str(fake_spec.parent) not in text


def test_packaging_the_same_run_twice_gives_identical_bytes(first, fake_spec, fake_host, root):
    package = Path(first["artifacts"]["package"])
    before = {
        path.name: path.read_bytes()
        for path in (*package.iterdir(), package.with_name(package.name + ".zip"))
        if path.is_file()
    }
    import shutil

    shutil.rmtree(package.resolve().parent)
    again = run(fake_spec, fake_host, root)
    assert statuses(again)["package"] == "done"
    after = {
        path.name: path.read_bytes()
        for path in (*package.iterdir(), package.with_name(package.name + ".zip"))
        if path.is_file()
    }
    assert before == after


def test_a_root_that_cannot_be_written_is_an_environment_fault(fake_spec, fake_host, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault):
        run(fake_spec, fake_host, tmp_path / "file" / "root")


def test_rows_that_change_while_they_are_read_are_not_kept(fake_spec, fake_host, root):
    test = fake_spec.with_name("test.csv")
    before = test.read_text()

    def rewrite(event):
        if event.get("step") == "train" and event.get("status") == "done":
            test.write_text(before.replace("give me my money", "the parcel is here"))

    with pytest.raises(BadInput, match="`evaluate-tuned` reads changed while it ran"):
        Project.from_spec(fake_spec, host=fake_host).run(root, rewrite)
    test.write_text(before)
    again = statuses(run(fake_spec, fake_host, root))
    assert (again["train"], again["evaluate-tuned"]) == ("cached", "done")


@pytest.mark.parametrize("where", ["weights in the cache", "prepared rows"])
def test_a_flipped_byte_is_found_before_it_is_trained_on(first, fake_spec, fake_host, root, cache, where):
    (path,) = (
        cache.rglob("model.safetensors") if where == "weights in the cache" else root.glob("store/prepare-*/rows.jsonl")
    )
    good = path.read_bytes()
    path.write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
    again = statuses(run(fake_spec, fake_host, root, "trainer.learning_rate=0.25"))
    assert again["fetch" if "cache" in where else "prepare"] == "done"
    assert path.read_bytes() == good


def test_a_renamed_file_is_named_rightly_and_a_licence_is_only_a_label(first, fake_spec, fake_host, root):
    text = fake_spec.read_text()
    (fake_spec.parent / "train.csv").rename(fake_spec.parent / "renamed.csv")
    fake_spec.write_text(text.replace("path: train.csv", "path: renamed.csv"))
    summary = run(fake_spec, fake_host, root)
    assert statuses(summary)["prepare"] == "done"
    assert "train.csv" not in Path(summary["artifacts"]["report"]).read_text()


def test_another_seed_asks_the_base_again_only_where_rows_are_drawn(first, fake_spec, fake_host, root):
    again = statuses(run(fake_spec, fake_host, root, "seed=8"))
    assert (again["evaluate-base"], again["train"]) == ("cached", "done")
    drawn = statuses(run(fake_spec, fake_host, root, "seed=8", "data.test.0.sample=2"))
    assert drawn["evaluate-base"] == "done"


def test_a_reference_that_no_answer_can_reach_is_refused(fake_spec, fake_host, root):
    with pytest.raises(BadInput, match=r"test.csv:2: the reference has 8 tokens, answers may have 3; .* of 3 that"):
        run(fake_spec, fake_host, root, "evals.0.max_new_tokens=3")


def test_the_longest_of_them_says_what_to_set(fake_spec, fake_host, root):
    """One change is enough: not one for each reference that is a little longer than the one before."""
    test = fake_spec.parent / "test.csv"
    test.write_text(test.read_text() + "the letter,correspondence\n")
    with pytest.raises(BadInput, match=r"test.csv:5: the reference has 14 tokens, answers may have 3") as refused:
        run(fake_spec, fake_host, root, "evals.0.max_new_tokens=3")
    assert "`max_new_tokens: 15` or more" in refused.value.fix


def test_an_empty_answer_is_said_at_plan(fake_spec, fake_host):
    with (fake_spec.parent / "train.csv").open("a") as file:
        file.write("no answer here,\n")
    with pytest.raises(BadInput, match=r"train.csv:8: the answer is empty"):
        Project.from_spec(fake_spec, host=fake_host).plan()


def test_running_out_of_memory_is_an_environment_fault_with_a_way_on(fake_spec, fake_host, root, monkeypatch):
    import tunewright_fakes

    def train(self, job):
        raise MemoryError("cannot allocate")

    monkeypatch.setattr(tunewright_fakes.FakeTrainer, "train", train)
    with pytest.raises(EnvironmentFault, match="out of memory: cannot allocate") as no_option:
        run(fake_spec, fake_host, root)
    assert no_option.value.fix.startswith("free some, or take a smaller base")
    assert statuses(json.loads((root / "latest" / "run.json").read_text()))["train"] == "failed"
    levers = (Lever(Harm.TIME, "slow", ({"again": True},)), Lever(Harm.NOTHING, "", ({"rows": 4, "passes": 2}, {})))
    monkeypatch.setattr(tunewright_fakes.FakeTrainer, "levers", lambda self: levers)
    with pytest.raises(EnvironmentFault) as found:
        run(fake_spec, fake_host, root)
    assert found.value.fix.startswith("set `rows: 4` with `passes: 2`, or `again: true` for the trainer; or see what")


def test_out_of_memory_names_what_the_very_step_reads(fake_spec, fake_host, root, monkeypatch):
    """How a training is divided does nothing for its reference, nor for an evaluation."""
    import tunewright_fakes

    def ends(self, *given, **named):
        raise MemoryError

    levers = (Lever(Harm.NOTHING, "", ({"rows": 4},)),)
    monkeypatch.setattr(tunewright_fakes.FakeTrainer, "levers", lambda self: levers)
    for kind, asks, hint in (
        (tunewright_fakes.FakeEngine, "open", "lighter"),
        (tunewright_fakes.FakeReferring, "reference", "lighter_reference"),
    ):
        with monkeypatch.context() as patched, pytest.raises(EnvironmentFault) as found:
            patched.setattr(kind, hint, lambda self: "lower `its own`")
            patched.setattr(kind, asks, ends)
            run(fake_spec, fake_host, root, "trainer.kind=refers")
        assert found.value.fix.startswith("lower `its own`; or see what") and "rows: 4" not in found.value.fix


def test_a_renamed_export_still_makes_a_package(fake_spec, fake_host, root):
    fake_spec.write_text(fake_spec.read_text() + "exports: [{kind: adapter, name: lora}]\n")
    summary = run(fake_spec, fake_host, root)
    assert Path(summary["artifacts"]["package"]).is_dir()
    assert "lora" in summary["artifacts"]
