"""Local tasks for lm_eval, one of each way to ask, with data that stands beside them; and a tiny model to ask."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiny import backend
from tunewright.parts.engine import Served
from tunewright_lmeval.evaluator import LmEval
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

QUEUES = ("repair", "delivery", "billing")
ROWS = [
    ("where is my parcel", 1), ("the lamp is dark", 0), ("I was charged twice", 2), ("the pump is loud", 0),
    ("my order never came", 1), ("send me an invoice", 2), ("the shelf fell off", 0), ("it went to a neighbour", 1),
]  # fmt: skip
SHOWN = [("the door does not close", 0), ("when will it be here", 1), ("the sum is wrong", 2), ("it has no power", 0)]
DATA = """\
dataset_path: json
dataset_kwargs: {data_files: {train: shown.jsonl, test: rows.jsonl}}
training_split: train
test_split: test
"""
TASKS = {
    "desk_queue": """\
output_type: multiple_choice
doc_to_text: "Message: {{text}}\\nQueue:"
doc_to_choice: [repair, delivery, billing]
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "desk_urgent": """\
output_type: multiple_choice
doc_to_text: "Is it urgent? {{text}} Answer:"
doc_to_choice: ["no", "yes"]
doc_to_target: "{{0 if label == 2 else 1}}"
metric_list: [{metric: f1}, {metric: mcc}, {metric: brier_score}, {metric: acc}, {metric: exact_match, aggregation: mean, higher_is_better: true}]
""",  # noqa: E501
    "desk_reply": """\
output_type: generate_until
doc_to_text: "Message: {{text}}\\nQueue: "
doc_to_target: queue
generation_kwargs: {until: ["e", "\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
""",
    "desk_last": """\
output_type: loglikelihood
doc_to_text: "{{text}} "
doc_to_target: "goes to {{queue}}"
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "desk_text": """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}, which is for {{queue}} and for nobody else."
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
""",
    "desk_drawn": """\
output_type: generate_until
doc_to_text: text
doc_to_target: queue
generation_kwargs: {until: ["\\n"], do_sample: true, temperature: 0.8}
metric_list: [{metric: exact_match}]
""",
    "desk_read": """\
output_type: generate_until
doc_to_text: text
doc_to_target: queue
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "^(\\\\w+)"}, {function: take_first}]}
  - {name: loose, filter: [{function: lowercase}, {function: take_first}]}
metric_list: [{metric: exact_match}]
""",
    "desk_bleu": """\
output_type: generate_until
doc_to_text: text
doc_to_target: queue
metric_list: [{metric: bleu}]
""",
    "desk_coded": """\
output_type: generate_until
doc_to_text: text
doc_to_target: queue
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
process_results: !function judged.judged
metric_list: [{metric: words, aggregation: mean, higher_is_better: false}]
""",
    "desk_bare": """\
output_type: multiple_choice
num_fewshot: 0
doc_to_text: text
doc_to_choice: [repair, delivery, billing]
doc_to_target: label
""",
    "desk_told": """\
output_type: multiple_choice
training_split: null
doc_to_text: text
doc_to_choice: [repair, delivery, billing]
doc_to_target: label
""",
}


def write_tasks(folder: Path, names: Iterable[str] = tuple(TASKS)) -> Path:
    """The tasks, in a folder each, as a client keeps them."""
    for name in names:
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        # a task's own lines count: yaml takes no key twice
        own_keys = {line.partition(":")[0] for line in TASKS[name].splitlines()}
        data = "".join(f"{line}\n" for line in DATA.splitlines() if line.partition(":")[0] not in own_keys)
        (own / f"{name}.yaml").write_text(f"task: {name}\ntag: desk\n{data}{TASKS[name]}")
        write_rows(own / "rows.jsonl", ROWS)
        write_rows(own / "shown.jsonl", SHOWN)
    if "desk_coded" in names:
        judged = "def judged(doc, results):\n    return {'words': len(results[0].split())}\n"
        (folder / "desk_coded" / "judged.py").write_text(judged)
    return folder


def write_rows(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    """Documents of the tasks."""
    found = [{"text": text, "label": label, "queue": QUEUES[label]} for text, label in rows]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in found))


def opened(folder: Path) -> Any:
    """A model in a folder, opened as a run opens a base."""
    return backend(TransformersEngine).open(Served(folder, backend(TransformersLoader), backend(NoQuantizer), "fp32"))


def benchmark(folder: Path, *tasks: str, **options: Any) -> Any:
    """An evaluation by the tasks of a folder."""
    return backend(LmEval, tasks=list(tasks), include=str(folder), **options)


def measured(evaluator: Any, subject: Any) -> list[Any]:
    """What an evaluation makes of a subject, when nobody listens."""
    return evaluator.measure(subject, (), lambda done, of: None)


def scores(evaluator: Any, graded: list[Any]) -> dict[str, float]:
    """The scores by name."""
    return {name: summary(graded) for name, summary in evaluator.summaries().items()}
