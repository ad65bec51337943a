"""Tunewright's own kit, one line a part: what a backend must do, it proves."""

from tunewright.testing import check_data_source, check_evaluator, check_gate, check_prompt_format

from acme_tunewright.house import SureGain
from acme_tunewright.tickets import Tickets
from acme_tunewright.triage import Triage, TriageEvaluator

TEAMS = ["billing", "repairs", "deliveries", "contracts"]
TICKET = {"subject": "no steam", "body": "The wand hisses.", "team": "repairs"}


def test_the_source_conforms(database, tmp_path):
    check_data_source(Tickets, {"path": database}, folder=tmp_path)


def test_the_format_conforms(tmp_path):
    check_prompt_format(Triage, {"teams": TEAMS}, folder=tmp_path, rows=[TICKET])


def test_the_evaluator_conforms(tmp_path):
    check_evaluator(TriageEvaluator, {"teams": TEAMS}, folder=tmp_path)


def test_the_gate_conforms(tmp_path):
    check_gate(SureGain, {"metric": "triage.right"}, folder=tmp_path)
