"""A benchmark asks the subject that it is given, base or tuned, and lm_eval never comes by a model of its own."""

from __future__ import annotations

import json

import pytest
from lmeval_work import ROWS, benchmark, measured, scores, write_rows, write_tasks

from tiny import backend, tiny_model
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts.base import BadOption
from tunewright.parts.engine import Served, limits
from tunewright.stats.paired import compare
from tunewright.testing.invented import Invented
from tunewright_lmeval.evaluator import LmEval
from tunewright_lmeval.tasks import whole

pytest.importorskip("lm_eval", reason="the extra [lm-eval] is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"))


class Deaf:
    """A subject whose engine tells no likeliest tokens, and that notes what it is asked."""

    def __init__(self, seed=0, answers=("delivery", "repair it, please", "billing\nand more")):
        self.inner, self.asked = Invented(seed, answers), []
        self.identity, self.tokenizer = "base", self.inner.tokenizer

    def complete(self, prompts, limit, progress=None, *, together=True):
        self.asked += zip(prompts, limits(limit, len(prompts)), strict=True)
        return self.inner.complete(prompts, limit, progress)

    def score(self, rows, progress=None, *, together=True):
        self.asked += rows
        return self.inner.score(rows, progress)


def test_base_and_tuned_get_scores_of_their_own_and_no_other_model_is_loaded(folder, tmp_path, monkeypatch):
    import torch
    import transformers

    from tunewright_peft.lora import Lora
    from tunewright_transformers.engine import TransformersEngine
    from tunewright_transformers.loader import TransformersLoader
    from tunewright_transformers.unquantized import NoQuantizer

    loader, method = backend(TransformersLoader), backend(Lora, r=4, alpha=64)
    base = Served(tiny_model(tmp_path / "base"), loader, backend(NoQuantizer), "fp32")
    torch.manual_seed(0)
    model = method.wrap(loader.model(base.base, base.quantizer, "fp32", "train"), None)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    (tmp_path / "trained").mkdir()
    method.save(model, tmp_path / "trained")
    evaluator = benchmark(folder, "desk_urgent", metrics=["acc", "brier_score"])
    found = {}
    for served in (base, base._replace(method=method, trained=tmp_path / "trained")):
        with backend(TransformersEngine).open(served) as subject, monkeypatch.context() as patch:
            for refused in ("AutoModelForCausalLM", "AutoModel", "AutoTokenizer", "PreTrainedModel"):
                patch.setattr(getattr(transformers, refused), "from_pretrained", _no_other_model)
            found[subject.identity] = measured(evaluator, subject)
    (before, after), digest = found.values(), method.digest(model)
    assert list(found) == ["base", digest]
    assert [one.answer.text for one in before] != [one.answer.text for one in after]
    score = compare(before, after, "brier_score", evaluator.summaries()["brier_score"], seed=0)
    assert score.base != score.tuned


def _no_other_model(*args, **kwargs):
    raise AssertionError("a model was loaded beside the one that the engine opened")


def test_every_document_is_an_item_before_any_model_is_known(folder):
    first, *rest = benchmark(folder, "desk_queue", chat=True).items(())
    assert (first.id, first.task, first.choices) == ("desk_queue:0", "desk_queue", ("repair", "delivery", "billing"))
    assert first.prompt == [{"role": "user", "content": "Message: where is my parcel\nQueue:"}]
    assert first.reference == "delivery"
    assert [item.id for item in rest] == [f"desk_queue:{place}" for place in range(1, len(ROWS))]


def test_what_is_measured_are_the_items_and_progress_tells_all_of_it(folder):
    evaluator, heard = benchmark(folder, "desk_queue", "desk_urgent", few_shot=2, limit=3), []
    graded = evaluator.measure(Deaf(), (), lambda *told: heard.append(told))
    assert [one.item for one in graded] == list(evaluator.items(()))
    assert [one.item.task for one in graded] == ["desk_queue"] * 3 + ["desk_urgent"] * 3
    assert heard[-1] == (15, 15)
    assert heard == sorted(heard)


def test_a_second_model_sees_the_same_examples(folder):
    evaluator, one, two = benchmark(folder, "desk_queue", few_shot=2), Deaf(), Deaf(1)
    measured(evaluator, one), measured(evaluator, two)
    assert [row.prompt for row in one.asked] == [row.prompt for row in two.asked]


def test_draws_of_the_process_go_on_as_if_nothing_had_been_measured(folder):
    import random

    import numpy as np

    random.seed(5), np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5), np.random.seed(5)
    measured(benchmark(folder, "desk_queue", few_shot=1), Deaf())
    assert (random.random(), np.random.random()) == expected


def test_each_of_several_tasks_has_scores_of_its_own(folder):
    evaluator = benchmark(folder, "desk_queue", "desk_urgent")
    graded = measured(evaluator, Deaf())
    assert list(evaluator.summaries()) == ["desk_queue.acc", "desk_urgent.acc"]
    alone = {name: scores(benchmark(folder, name), measured(benchmark(folder, name), Deaf()))["acc"]
             for name in ("desk_queue", "desk_urgent")}  # fmt: skip
    assert scores(evaluator, graded) == {f"{name}.acc": score for name, score in alone.items()}


def test_an_answer_is_cut_at_the_first_stop_string_and_at_the_tasks_limit(folder):
    evaluator, subject = benchmark(folder, "desk_reply", metrics=["exact_match"]), Deaf(answers=["billing\nand more"])
    graded = measured(evaluator, subject)
    assert {one.answer.text for one in graded} == {"billing"}
    assert {limit for _, limit in subject.asked} == {12}
    assert scores(evaluator, graded)["exact_match"] == pytest.approx(2 / 8)
    assert evaluator.asks


def test_the_specs_limit_holds_where_it_is_the_shorter_one(folder):
    subject = Deaf()
    measured(benchmark(folder, "desk_reply", metrics=["exact_match"], max_new_tokens=5), subject)
    assert {limit for _, limit in subject.asked} == {5}


def test_a_conversation_goes_to_the_engine_as_one(folder):
    subject = Deaf()
    measured(benchmark(folder, "desk_reply", metrics=["exact_match"], chat=True, few_shot=1), subject)
    assert [turn["role"] for turn in subject.asked[0][0]] == ["user", "assistant", "user"]


def test_of_several_readings_of_an_answer_the_one_that_is_named_counts(folder):
    read = {
        name: scores(evaluator, measured(evaluator, Deaf(answers=["Delivery, please"])))
        for name in ("strict", "loose")
        for evaluator in [benchmark(folder, "desk_read", metrics=["exact_match"], filter=name)]
    }
    assert read == {"strict": {"exact_match": 0}, "loose": {"exact_match": 0}}
    said = benchmark(folder, "desk_read", metrics=["exact_match"], filter="strict")
    assert scores(said, measured(said, Deaf(answers=["delivery, please"])))["exact_match"] == pytest.approx(3 / 8)


def test_ties_between_choices_are_told(folder):
    class Even(Deaf):
        def score(self, rows, progress=None, *, together=True):
            progress(len(rows))
            return [[-1.0] for _ in rows]

    graded = measured(benchmark(folder, "desk_queue"), Even())
    assert {one.grades["tied"] for one in graded} == {1.0}
    assert {one.grades["tied"] for one in measured(benchmark(folder, "desk_queue"), Deaf())} == {0.0}


def test_what_needs_the_likeliest_token_is_refused_where_no_engine_tells_it(folder):
    with pytest.raises(Refused, match=r"task `desk_last` counts whether .* the engine tells no likeliest tokens"):
        measured(benchmark(folder, "desk_last"), Deaf())
    measured(benchmark(folder, "desk_last", metrics=["perplexity"]), Deaf())  # which does not need it


def test_an_error_of_the_engine_stays_what_it_is(folder):
    class Broken(Deaf):
        def score(self, rows, progress=None, *, together=True):
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        measured(benchmark(folder, "desk_queue"), Broken())


def test_code_of_a_task_that_fails_is_named(tmp_path):
    write_tasks(tmp_path, ["desk_coded"])
    (tmp_path / "desk_coded" / "judged.py").write_text("def judged(doc, results):\n    return doc['nothing']\n")
    evaluator = benchmark(tmp_path, "desk_coded", metrics=["words"], lower_is_better=["words"])
    with pytest.raises(BadInput, match="task `desk_coded` cannot be asked: KeyError: 'nothing'"):
        measured(evaluator, Deaf())
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_result_that_is_no_number_is_refused(tmp_path):
    write_tasks(tmp_path, ["desk_coded"])
    (tmp_path / "desk_coded" / "judged.py").write_text(
        "def judged(doc, results):\n    return {'words': float('nan')}\n"
    )
    with pytest.raises(WorkFailed, match="task desk_coded, document 0: `words` is nan"):
        measured(benchmark(tmp_path, "desk_coded", metrics=["words"], lower_is_better=["words"]), Deaf())


@pytest.mark.parametrize(("task", "options", "field", "says"), [
    ("desk_drawn", {"metrics": ["exact_match"]}, "tasks", "cannot be answered greedily: it draws its answers"),
    ("desk_bleu", {"metrics": ["bleu"]}, "metrics", "task `desk_bleu` makes `bleu` of all documents at once"),
    ("desk_read", {"metrics": ["exact_match"]}, "tasks", "task `desk_read` reads each answer in 2 ways"),
    ("desk_queue", {"filter": "strict"}, "filter", "task `desk_queue` reads no answer as `strict`"),
    ("desk_queue", {"metrics": ["f1"]}, "metrics", "task `desk_queue` makes no metric `f1`"),
    ("desk_coded", {"metrics": ["words"]}, "metrics", "of `words` a lower value is better, says task `desk_coded`"),
    ("desk_queue", {"lower_is_better": ["acc"]}, "lower_is_better", "of `acc` a higher value is better"),
    ("desk_bare", {"few_shot": 2}, "few_shot", "by its own definition asked without examples"),
    ("desk_told", {"few_shot": 2}, "few_shot", "draws its examples from the documents that it asks"),
    ("desk_queue", {"few_shot": 99}, "tasks", "task `desk_queue` cannot be asked: ValueError"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said_before_a_model_is_there(folder, task, options, field, says):
    with pytest.raises(BadOption, match=says) as error:
        list(benchmark(folder, task, **options).items(()))
    assert error.value.finding.field == field
    assert error.value.fix


@pytest.mark.slow
def test_a_task_that_is_not_there_has_a_neighbour_and_lm_evals_own_need_data_on_this_machine(folder):
    from tunewright.errors import EnvironmentFault

    with pytest.raises(BadOption, match=r"there is no task `desk_queu`\n.*desk_queue"):
        list(benchmark(folder, "desk_queu").items(()))
    with pytest.raises(EnvironmentFault, match=r"`allenai/ai2_arc`, which is not on this machine") as error:
        list(backend(LmEval, tasks=["arc_easy"]).items(()))
    assert "datasets.load_dataset('allenai/ai2_arc', 'ARC-Easy')" in error.value.fix


def test_what_the_tasks_ask_is_in_the_key(tmp_path):
    write_tasks(tmp_path, ["desk_queue"])
    keys = [benchmark(tmp_path, "desk_queue").signature()]
    assert benchmark(tmp_path, "desk_queue").signature() == keys[0]
    write_rows(tmp_path / "desk_queue" / "rows.jsonl", ROWS[:-1])
    keys.append(benchmark(tmp_path, "desk_queue").signature())
    (tmp_path / "desk_queue" / "note.txt").write_text("anything that a task's code may read")
    keys.append(benchmark(tmp_path, "desk_queue").signature())
    assert len(set(keys)) == 3


def test_a_column_that_only_a_tasks_own_code_grades_by_is_in_the_key(tmp_path):
    own = write_tasks(tmp_path / "tasks", ["desk_coded"]) / "desk_coded"
    task = (own / "desk_coded.yaml").read_text().replace("training_split: train\n", "")
    task = task.replace("train: shown.jsonl, test: rows.jsonl", "test: ../../rows.jsonl")
    (own / "desk_coded.yaml").write_text(task)  # so the rows are in no folder whose files are in the key
    judged = "def judged(doc, results):\n    return {'words': float(results[0] in doc['right'])}\n"
    (own / "judged.py").write_text(judged)

    def key(*right):
        rows = [{"text": text, "queue": "repair", "right": list(right)} for text, _ in ROWS]
        (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return benchmark(tmp_path / "tasks", "desk_coded", metrics=["words"], lower_is_better=["words"]).signature()

    assert key("repair") == key("repair")
    assert key("repair") != key("repair", "to repair")


def test_the_key_holds_documents_to_their_last_value_and_in_one_order():
    numpy = pytest.importorskip("numpy")
    long = numpy.zeros(2000)  # numpy shows the ends of one so long
    changed = long.copy()
    changed[1000] = 1
    assert repr(whole({"scores": [long]})) != repr(whole({"scores": [changed]}))
    assert whole({"right": {"b", "a"}}) == {"right": ["a", "b"]}


def test_asking_a_model_leaves_the_key_as_it_is(folder):
    evaluator = benchmark(folder, "desk_queue", chat=True)
    key = evaluator.signature()
    measured(evaluator, Deaf())
    assert evaluator.signature() == key


def test_graded_documents_are_plain_json(folder):
    graded = measured(benchmark(folder, "desk_urgent", metrics=["f1", "mcc", "brier_score"]), Deaf())
    json.dumps([[dict(one.grades), one.answer.ids] for one in graded])
    assert {type(grade) for one in graded for grade in one.grades.values()} == {float}
