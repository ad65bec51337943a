"""Local tasks for lm_eval, one of each way to ask, with data that stands beside them; and a tiny model to ask."""

from __future__ import annotations

import json
from pathlib import Path

QUEUES = ("repair", "delivery", "billing")
ROWS = [
    ("where is my parcel", 1), ("the lamp is dark", 0), ("I was charged twice", 2), ("the pump is loud", 0),
    ("my order never came", 1), ("send me an invoice", 2), ("the shelf fell off", 0), ("it went to a neighbour", 1),
]  # fmt: skip
DATA = """\
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
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
    "desk_shown": """\
output_type: multiple_choice
fewshot_split: test
num_fewshot: 0
doc_to_text: text
doc_to_choice: [repair, delivery, billing]
doc_to_target: label
""",
}


def write_tasks(folder: Path) -> Path:
    """The tasks in a folder each, as a client keeps them."""
    for name, text in TASKS.items():
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        (own / f"{name}.yaml").write_text(f"task: {name}\n{DATA}{text}")
        rows = [{"text": text, "label": label, "queue": QUEUES[label]} for text, label in ROWS]
        (own / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "desk_coded" / "judged.py").write_text(
        "def judged(doc, results):\n    return {'words': len(results[0].split())}\n"
    )
    return folder
