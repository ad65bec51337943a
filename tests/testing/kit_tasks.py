"""Tasks of lm_eval's for the kit, in which every option of the evaluator makes a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KIT_OPTIONS: dict[str, Any] = {"tasks": ["first", "second"], "metrics": ["score"], "few_shot": 1, "max_length": 9}
DATA = """\
dataset_path: json
dataset_kwargs: {data_files: {train: shown.json, test: asked.json}}
training_split: train
test_split: test
process_results: !function judged.judged
metric_list:
  - {metric: score, aggregation: mean, higher_is_better: true}
  - {metric: other, aggregation: mean, higher_is_better: true}
"""
TASKS = {
    "first": 'output_type: generate_until\ndoc_to_text: "{{text}} →"\ndoc_to_target: label\n',
    "second": 'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}} is for {{label}}"\n',
}
CODE = """\
def judged(doc, results):
    found = len(results[0]) if isinstance(results[0], str) else results[0]
    return {"score": found, "other": found / 2}
"""


def write_kit_tasks(folder: Path) -> Path:
    """The tasks, their data and their code in one folder."""
    folder.mkdir(exist_ok=True)
    rows = [("the lamp is dark", "repair"), ("where is it", "delivery"), ("I paid twice", "billing")]
    asked = [{"text": text, "label": label} for text, label in rows]
    (folder / "asked.json").write_text(json.dumps(asked))
    (folder / "shown.json").write_text(json.dumps([{**row, "text": f"please: {row['text']}"} for row in asked]))
    (folder / "judged.py").write_text(CODE)
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{DATA}{text}")
    return folder
