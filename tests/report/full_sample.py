"""The sample's facts, and on top of them every section that only some runs have."""

from __future__ import annotations

from typing import Any

from report.sample import facts
from tunewright.report.facts import ReportFacts

LABELS = ("card_swallowed", "exchange_charge", "pending_top_up", "transfer_timing")
MATRIX = [[24, 0, 0, 0, 1], [0, 21, 3, 1, 0], [0, 2, 22, 1, 0], [1, 0, 0, 24, 0]]


def everything(**changes: Any) -> ReportFacts:
    """The sample with everything in it; fields may be replaced."""
    return facts(**{**_MORE, **changes})


def score(base: float, tuned: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"n": 100, "base": base, "tuned": tuned, "delta": tuned - base, "ci95": [low, high], "p_value": 0.01, **more}


def measured(precision: float | None, recall: float, f1: float) -> dict[str, Any]:
    return {"count": 25, "precision": precision, "recall": recall, "f1": f1}


def habits(tokens: float | None, cut: int = 0, refusals: int = 0, ties: int = 0) -> dict[str, Any]:
    said = 100 if tokens is not None else 0
    return {"items": 100, "said": said, "tokens": tokens, "cut": cut, "refusals": refusals, "ties": ties}


def stage(name: str, kind: str, rows: int, **more: Any) -> dict[str, Any]:
    """One of several trainings, with a loss that falls."""
    return {
        "name": name,
        "trainer": {"kind": kind, "arguments": {"beta": {"value": 0.1, "set_by": "spec", "field": "beta"}}},
        "rows": rows,
        "tokens": 100 * rows,
        "supervised": 10 * rows,
        "sources": [{"name": f"{name}.jsonl", "rows": rows, "set_aside": 0}],
        "steps": 3,
        "loss": [(1, 0.75), (2, 0.5), (3, 0.25)],
        **more,
    }


_COUNTED: dict[str, Any] = {
    "lengths": {
        "p50": 108,
        "p95": 160,
        "longest": 181,
        "limit": 512,
        "over": 0,
        "share_over": 0.0,
        "bins": [
            {"low": 60, "high": 119, "rows": 240},
            {"low": 120, "high": 179, "rows": 79},
            {"low": 180, "high": 239, "rows": 1},
        ],
    },
    "classes": [
        {"answer": f"intent_{n}", "rows": 15 if n else 5, "share": 15 / 320 if n else 5 / 320} for n in range(22)
    ],
}
_MORE: dict[str, Any] = {
    "stages": [
        stage("task", "sft", 320, validation={"rows": 32, "loss": [(2, 0.5), (3, 0.625)], "best_step": 2}),
        stage("taste", "dpo", 160, memory=[(step, 1_400_000_000 + 3_000_000 * step, 600_000_000) for step in (1, 80)]),
        stage("last", "kto", 80, loss=[(1, 0.5)], **_COUNTED),
    ],
    "readings": [
        "the base has 0.0 % of heldout.exact_match, and 41.0 % with 5 examples: much of the gain is the form of the "
        "answer",
        "general.score fell by 4.1 points (95 % 1.0 to 7.2): the price of the gain",
    ],
    "scores": {
        "heldout.exact_match": score(
            0.0, 0.91, 0.85, 0.96, base_ci95=[0.0, 0.037], tuned_ci95=[0.838, 0.952], p_mid=0.007, p_adjusted=0.05
        ),
        "heldout.macro_f1": score(
            0.02, 0.897, 0.8, 0.94, base_ci95=[0.0, 0.05], tuned_ci95=[0.83, 0.95], p_adjusted=0.05
        ),
        "general.score": score(
            0.62, 0.579, -0.072, -0.01, base_ci95=[0.52, 0.7], tuned_ci95=[0.48, 0.67], p_adjusted=0.05
        ),
        "support.score": score(0.41, 0.39, -0.11, 0.07, p_adjusted=0.05),
        "support.words": score(31.2, 24.6, -8.9, -4.1, p_adjusted=0.05),
    },
    "baselines": {
        "few_shot_5": {"heldout.exact_match": score(0.41, 0.91, 0.4, 0.6, p_mid=0.006, p_adjusted=0.01)},
        "other": {
            "heldout.exact_match": score(0.77, 0.91, 0.05, 0.23, p_mid=0.006, p_adjusted=0.02),
            "heldout.macro_f1": score(0.7, 0.897, 0.1, 0.3, p_adjusted=0.02),
        },
    },
    "classes": {
        "heldout": {
            "labels": [
                {"label": label, "base": measured(None, 0.0, 0.0), "tuned": measured(0.96, 0.88, 0.918)}
                for label in LABELS
            ],
            "matrix": MATRIX,
        },
        "intent": {
            "labels": [
                {"label": f"intent_{n}", "base": measured(0.5, 0.2, 0.286), "tuned": measured(0.9, 0.8, 0.847)}
                for n in range(24)
            ],
            "confused": [["intent_3", "intent_4", 7], ["intent_9", None, 3]],
        },
    },
    "calibration": {
        "choice": {
            "base": [
                {"count": 20, "confidence": 0.33, "accuracy": 0.25},
                {"count": 60, "confidence": 0.47, "accuracy": 0.4},
                {"count": 20, "confidence": 0.71, "accuracy": 0.42},
            ],
            "tuned": [
                {"count": 5, "confidence": 0.55, "accuracy": 0.6},
                {"count": 95, "confidence": 0.97, "accuracy": 0.915},
            ],
        }
    },
    "answers": {
        "heldout": {"base": habits(31.4, cut=62, refusals=3), "tuned": habits(3.2)},
        "choice": {"base": habits(None, ties=2), "tuned": habits(None)},
    },
    "examples": {
        "heldout": {
            "metric": "exact_match",
            "won": [
                {
                    "origin": "test.csv:17",
                    "prompt": "My card was swallowed by the machine at the station, what now?",
                    "reference": "card_swallowed",
                    "base": "card services can help you. Please contact your bank as soon as possible to report",
                    "tuned": "card_swallowed",
                    "alike": 4,
                    "token": 1,
                }
            ],
            "lost": [
                {
                    "origin": "test.csv:73",
                    "prompt": "Is there a fee for exchanging?",
                    "reference": "exchange_charge",
                    "base": "exchange_charge",
                    "tuned": "exchange_rate",
                    "alike": 9,
                    "token": 2,
                },
                {"origin": "test.csv:80", "prompt": "fees?", "reference": "exchange_charge", "base": "exchange_charge",
                 "tuned": ""},
            ],
            "won_count": 91,
            "lost_count": 2,
        },
        "support": {"won_count": 3},
    },
}  # fmt: skip
