"""`data show`: what each training is given, in rows and tokens, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_project import FIRST_PARTY
from tunewright.cli.data import show_data
from tunewright.data.same import Sameness
from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.problems import SpecError

SPLIT = "data.test={kind: split, fraction: 0.3}"


@pytest.fixture
def show(fake_spec, fake_host, monkeypatch, capsys):
    """Shows the fake spec with overrides; `json` gives the object."""
    monkeypatch.chdir(fake_spec.parent)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*overrides, tokens=None, rows=1, as_json=False, host=fake_host):
        show_data(fake_spec, overrides, tokens, rows, host, as_json)
        out = capsys.readouterr().out
        return json.loads(out) if as_json else out

    return call


def only(found):
    (training,) = found["trainings"]
    return training


def test_the_mixture_is_shown_by_source_in_rows_and_tokens(show):
    written = "data.train=[{kind: fake, path: train.csv, weight: 2}, {kind: fake, path: test.csv, weight: 1}]"
    found = only(show(written, as_json=True))
    one, other = found["sources"]
    assert [one[key] for key in ("name", "read", "kept", "given", "copies")] == ["train.csv", 6, 6, 6, 0]
    assert [other[key] for key in ("name", "read", "kept", "given", "copies")] == ["test.csv", 3, 3, 3, 0]
    assert one["share_of_rows"] == 2 / 3
    assert one["tokens"] + other["tokens"] == found["tokens"] > found["supervised"] > 0
    assert one["share_of_tokens"] == one["tokens"] / found["tokens"]
    text = show(written)
    assert "train.csv        6          0     6      6       0   66.7 %" in text
    assert "answers     3 distinct; the largest has 3 rows, the smallest has 3 rows" in text


def test_each_row_is_digested_once_however_often_it_is_compared(show, monkeypatch):
    digested = []
    whole = Sameness._digest
    monkeypatch.setattr(Sameness, "_digest", lambda same, *of: digested.append(of[1].origin) or whole(same, *of))
    found = only(show("data.train=[{kind: fake, path: train.csv}, {kind: fake, path: test.csv}]", as_json=True))
    assert found["held"]["test"]["equal"] == 3
    assert sorted(digested) == [f"{file}:{n}" for file, last in (("test.csv", 4), ("train.csv", 7))
                                for n in range(2, last + 1) for _ in range(2 if file == "test.csv" else 1)]  # fmt: skip


def test_copies_count_as_often_as_they_are_given(show):
    once, thrice = (only(show(f"data.train.0.epochs={n}", as_json=True)) for n in (1, 3))
    assert thrice["tokens"] == 3 * once["tokens"]
    assert (thrice["sources"][0]["copies"], thrice["rows"]) == (12, 18)
    assert [one["rows"] for one in thrice["classes"]] == [6, 6, 6]


def test_test_rows_that_are_learnt_are_warned_of(show):
    assert "warning" not in show()
    learnt = "data.train=[{kind: fake, path: train.csv}, {kind: fake, path: test.csv}]"
    assert "warning: 3 of 3 test rows, the first test.csv:2, equal rows of `test.csv`" in show(learnt)
    (found,) = show(learnt, as_json=True)["repeats"]
    assert [found[name] for name in ("judging", "rows", "count", "first")] == ["test rows", 3, 3, "test.csv:2"]


def test_splits_are_shown_and_their_rows_are_not_learnt(show):
    written = (SPLIT, "data.validation={kind: split, fraction: 0.3, group: queue}")
    found = only(show(*written, as_json=True))
    assert found["rows"] + sum(held["rows"] for held in found["held"].values()) == 6
    assert [held["equal"] for held in found["held"].values()] == [0, 0]
    assert found["held"]["validation"]["split"] == {"kind": "split", "fraction": 0.3, "group": "queue"}
    text = show(*written)
    assert ": 30.0 % split off by group `queue`" in text
    assert "test        2 rows: 30.0 % split off" in text


def test_rows_left_out_by_a_split_by_time_are_counted(show, fake_spec):
    rows = [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("d", 5)]
    (fake_spec.parent / "train.csv").write_text("text,queue,at\n" + "".join(f"{t},q,{at}\n" for t, at in rows))
    found = show("data.validation={kind: split, fraction: 0.4, time: at}")
    assert "validation  1 row: 40.0 % split off by time `at`; 1 left out, equal to a" in found
    assert "train       3 rows" in found


def test_rows_that_groups_share_are_left_out_and_counted(show, fake_spec):
    rows = [(c, text) for c in range(4) for text in ("hello", f"only {c}")]
    (fake_spec.parent / "train.csv").write_text("customer,text,queue\n" + "".join(f"{c},{t},q\n" for c, t in rows))
    way = "data.test={kind: split, fraction: 0.3, group: customer}"
    held = only(show(way, as_json=True))["held"]["test"]
    assert (held["rows"], held["dropped"], held["equal"]) == (1, 1, 0)


def test_packed_texts_are_counted_as_prepare_counts_them(show, fake_spec, fake_host, monkeypatch):
    monkeypatch.setattr(type(Project(fake_spec, host=fake_host).resolve().trainings[0].trainer), "packs", True)
    plain = sum(row["supervised"] for row in [only(show("trainer.max_length=1000", as_json=True))])
    counts = set()
    for length in (7, 9, 20):
        limit = f"trainer.max_length={length}"
        found = only(show(limit, as_json=True))
        summary = Project(fake_spec, [limit, "evals=[]", "gates=[]"], fake_host).run(fake_spec.parent / "root").summary
        prepared = json.loads((Path(summary["run_dir"]) / "steps" / "prepare" / "data.json").read_text())
        assert [found[name] for name in ("packed", "tokens", "supervised")] == [
            prepared[name] for name in ("rows", "tokens", "supervised")
        ]
        assert [found[name] for name in ("lengths", "classes")] == [prepared[name] for name in ("lengths", "classes")]
        counts.add(found["supervised"])
    assert min(counts) < plain  # what stands first in a packed row bears no loss


def test_the_report_shows_the_lengths_and_the_classes_that_are_printed(show, fake_spec, fake_host):
    found = only(show(as_json=True))
    summary = Project(fake_spec, (), fake_host).run(fake_spec.parent / "root").summary
    prepared = json.loads((Path(summary["run_dir"]) / "steps" / "prepare" / "data.json").read_text())
    assert [prepared[name] for name in ("lengths", "classes")] == [found[name] for name in ("lengths", "classes")]
    page = (Path(summary["run_dir"]) / "report.html").read_text()
    told = f"Half of the rows have up to {found['lengths']['p50']} tokens, 95 % up to {found['lengths']['p95']}"
    assert told in page
    assert all(f'<th scope="row">{one["answer"]}</th>' in page for one in found["classes"])


def test_rows_over_the_limit_are_counted_as_what_they_are(show):
    found = only(show("trainer.max_length=50", as_json=True))
    assert (found["lengths"]["over"], found["lengths"]["share_over"]) == (4, 4 / 6)
    assert "50 tokens; over it: 4 rows (66.7 %); each is an error" in show("trainer.max_length=50")


def test_the_histogram_holds_every_row(show):
    found = only(show(as_json=True))["lengths"]
    assert sum(one["rows"] for one in found["bins"]) == 6
    assert (found["bins"][0]["low"], found["longest"]) == (47, 54)
    assert "    52     2  33.3 %  ██████████████████████████████" in show()


def test_texts_that_all_differ_have_no_classes(show, fake_spec):
    (fake_spec.parent / "train.csv").write_text("text,queue\n" + "".join(f"t{n},answer {n}\n" for n in range(9)))
    assert only(show(as_json=True))["classes"] is None
    assert "answers" not in show()


def test_a_row_is_shown_as_it_was_read_and_with_tokens_as_it_is_masked(show):
    assert "\ntrain.csv:2\n  system: Route the message.\n  user: where is my parcel\n  assistant: delivery\n" in show()
    assert "⟦d⟧|⟦e⟧" in show(tokens=True)
    wrong = only(show("trainer.max_length=50", tokens=True, as_json=True))["shown"][0]["wrong"]
    assert "over `max_length` 50" in wrong[0]


def test_without_tokens_no_base_is_fetched(show, cache):
    assert "tokens      not counted" in show(tokens=False)
    assert not cache.exists()
    found = only(show(tokens=False, as_json=True))
    assert (found["tokens"], found["lengths"], found["sources"][0]["tokens"]) == (None, None, None)


def test_each_stage_is_shown_and_its_own_data_held_against_the_test_rows(show):
    stages = "[{name: one, trainer: fake}, {name: two, trainer: fake, data: {train: [{kind: fake, path: train.csv}]}}]"
    overrides = (SPLIT, f"stages={stages}", "trainer=null")
    one, two = show(*overrides, as_json=True)["trainings"]
    assert [(found["name"], found["rows"]) for found in (one, two)] == [("one", 4), ("two", 6)]
    assert [found["held"]["test"]["equal"] for found in (one, two)] == [0, 2]
    text = show(*overrides)
    assert text.index("stage one: ") < text.index("stage two: ")


def test_an_evaluations_own_rows_are_held_against_what_is_learnt(show):
    found = only(show("evals=[{kind: fake, test: [{kind: fake, path: train.csv}]}]", as_json=True))
    assert found["held"]["test of fake"]["equal"] == 6


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.train.0.weight=2", "the weight does nothing"),
        ("data.train.0.epochs=0.01", "leaves none of 6 rows"),
        ("data.test.0.sample=4", "3 rows are there to draw 4 from"),
    ],
)
def test_a_source_that_cannot_be_used_is_said_at_its_option(show, override, said):
    with pytest.raises(SpecError) as caught:
        show(override)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.position.file == f"--set {override}"


def test_a_split_by_a_column_that_is_not_there_is_found_before_a_row_is_read(show):
    with pytest.raises(SpecError, match=r"`train\.csv` has no column `customer`"):
        show("data.validation={kind: split, fraction: 0.3, group: customer}")


@pytest.fixture
def csv_spec(fake_spec, fakes):
    """The same project, its rows read by the csv source that comes with Tunewright, 2,000 of them in two languages."""
    text = fake_spec.read_text().replace("{kind: fake, path: train.csv}", "{kind: csv, path: train.csv, epochs: 1.5}")
    fake_spec.write_text(text.replace("{kind: fake, path: test.csv}", "{kind: csv, path: test.csv}"))
    lines = [f'"message {n}, {"ü" * (n % 90)}",queue {n % 40}\n' for n in range(2000)]
    (fake_spec.parent / "train.csv").write_text("text,queue\n" + "".join(lines), encoding="utf-8")
    return fake_spec


def test_a_real_csv_fits_80_columns(show, csv_spec):
    host = Host(blocked=tuple(name for name in FIRST_PARTY if name != "files"))
    text = show(host=host)
    assert max(map(len, text.splitlines())) <= 80
    assert "train.csv 2,000 0 2,000 3,000 1,000 100.0 % 100.0 %" in " ".join(text.split())
    found = only(show(host=host, as_json=True))
    assert 8 <= len(found["lengths"]["bins"]) <= 10
    assert len(found["classes"]) == 40
    assert sum(one["rows"] for one in found["classes"]) == found["rows"] == 3000
