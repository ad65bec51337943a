"""The facts of a run that never was, with something in every section."""

from __future__ import annotations

import math
from typing import Any

from tunewright.report.facts import ReportFacts

SPEC = """\
apiVersion: tunewright/v1
name: bank-router
model:        {source: {kind: pypi}, dtype: bf16}
quantization: {kind: nf4, double_quant: true}
adapter:      {kind: lora, r: 16, alpha: 32, targets: attention+mlp}
"""

_PROMPT = """\
<|im_start|>system
Route the message to one queue: card_swallowed, pending_top_up, …<|im_end|>
<|im_start|>user
How long does a transfer take?<|im_end|>
<|im_start|>assistant
"""


def argument(value: Any, set_by: str, field: str | None = None) -> dict[str, Any]:
    return {"value": value, "set_by": set_by, "field": field}


def facts(**changes: Any) -> ReportFacts:
    """The sample, with top-level fields replaced."""
    return ReportFacts.model_validate({**_SAMPLE, **changes})


def _loss(steps: int) -> list[tuple[int, float]]:
    return [(s, 0.15 + 3.1 * math.exp(-s / 14) + 0.12 * math.sin(s * 2.7) * math.exp(-s / 60)) for s in range(1, steps)]


def _example(place: int, text: str, reference: str, base: str, tuned: str) -> dict[str, str]:
    return {"origin": f"test.csv:{place}", "prompt": text, "reference": reference, "base": base, "tuned": tuned}


_SAMPLE: dict[str, Any] = {
    "name": "bank-router",
    "verdict": "passed",
    "base": {"name": "SmolLM2-135M-Instruct", "identity": "3f9a" * 16, "license": "Apache-2.0"},
    "quantization": {"kind": "nf4", "arguments": {"bnb_4bit_use_double_quant": argument(True, "spec", "double_quant")}},
    "adapter": {
        "kind": "lora",
        "arguments": {
            "r": argument(16, "spec", "r"),
            "lora_alpha": argument(32, "spec", "alpha"),
            "target_modules": argument(
                ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj"], "tunewright", "targets"
            ),
        },
        "trainable": 4_884_480,
        "total": 139_399_488,
        "bytes": 9_800_000,
    },
    "trainer": {
        "kind": "sft",
        "arguments": {
            "learning_rate": argument(5e-4, "spec", "learning_rate"),
            "num_train_epochs": argument(2, "spec", "epochs"),
            "optim": argument("paged_adamw_8bit", "spec", "optimizer"),
            "activation_checkpointing": argument(False, "tunewright"),
            "max_grad_norm": argument(1.0, "library"),
            "adam_beta1": argument(0.9, "library"),
        },
    },
    "data": {
        "rows": 320,
        "tokens": 36_480,
        "supervised": 2_048,
        "test_rows": 100,
        "sources": [
            {"name": "train.csv", "rows": 300, "set_aside": 0},
            {"name": "corrections.jsonl", "rows": 20, "set_aside": 3},
        ],
    },
    "scores": {
        "heldout.exact_match": {
            "n": 100,
            "base": 0.0,
            "tuned": 0.91,
            "delta": 0.91,
            "ci95": [0.85, 0.96],
            "p_value": 1e-20,
        },
        "heldout.macro_f1": {
            "n": 100,
            "base": 0.02,
            "tuned": 0.897,
            "delta": 0.877,
            "ci95": [0.8, 0.94],
            "p_value": 5e-4,
        },
        "support.score": {
            "n": 64,
            "base": 0.41,
            "tuned": 0.39,
            "delta": -0.02,
            "ci95": [-0.11, 0.07],
            "p_value": 0.791,
        },
        "support.words": {"n": 64, "base": 31.2, "tuned": 24.6, "delta": -6.6, "ci95": [-8.9, -4.1], "p_value": 0.0015},
    },
    "gates": [
        {"gate": "heldout.exact_match is at least 0.8", "passed": True, "why": "it is 0.910 on 100 rows"},
        {"gate": "support.score is not worse by more than 0.2", "passed": True, "why": "the interval ends at -0.110"},
    ],
    "loss": _loss(81),
    "examples": {
        "heldout": {
            "won": [
                _example(
                    17,
                    "My card was swallowed by the machine at the station, what now?",
                    "card_swallowed",
                    "I'm sorry to hear that. Please contact your bank as soon as possible to report the card that was",
                    "card_swallowed",
                ),
                _example(
                    41,
                    "why is my top-up still pending",
                    "pending_top_up",
                    "Your top-up may be pending for several reasons:\n1. The payment",
                    "pending_top_up",
                ),
            ],
            "lost": [
                _example(73, "Is there a fee for exchanging?", "exchange_charge", "exchange_charge", "exchange_rate")
            ],
            "won_count": 91,
            "lost_count": 1,
        }
    },
    "mask": [
        {
            "origin": "train.csv:5",
            "spans": [
                {"text": _PROMPT, "supervised": False},
                {"text": "transfer_timing<|im_end|>", "supervised": True},
                {"text": "\n", "supervised": False},
            ],
        }
    ],
    "parity": {
        "adapter": {"engine": "transformers", "agreement": 1.0, "prompts": 8, "bytes": 9_800_000},
        "merged": {
            "engine": "vllm",
            "agreement": 0.984,
            "prompts": 8,
            "diverged": 1,
            "first_divergence": 4,
            "bytes": 269_000_000,
            "identity": "5e0c" * 16,
            "kl": 0.0031,
            "scores": {
                "agreement": {
                    "n": 408,
                    "base": 1.0,
                    "tuned": 0.984,
                    "delta": -0.016,
                    "ci95": [-0.03, -0.004],
                    "p_value": 0.0005,
                },
                "heldout.exact_match": {
                    "n": 400,
                    "base": 0.912,
                    "tuned": 0.905,
                    "delta": -0.0075,
                    "ci95": [-0.02, 0.005],
                    "p_value": 0.375,
                },
            },
            "tokens_per_second": 212.4,
            "peak_rss_bytes": 1_310_000_000,
        },
        "awq": {
            "engine": "transformers",
            "agreement": 0.61,
            "prompts": 8,
            "diverged": 5,
            "first_divergence": 0,
            "retokenized": 3,
            "unended": 2,
            "bytes": 121_000_000,
            "identity": "5e0c" * 15 + "77ab",
            "kl": 0.62,
            "scores": {
                "heldout.exact_match": {
                    "n": 400,
                    "base": 0.912,
                    "tuned": 0.7025,
                    "delta": -0.21,
                    "ci95": [-0.25, -0.17],
                    "p_value": 0.0001,
                },
            },
            "refused": [
                "heldout.exact_match falls behind: 0.703 where the trained form has 0.912 on 400 rows "
                "(95 % -0.250 to -0.170, p 0.0001)"
            ],
            "tokens_per_second": 140.0,
            "peak_rss_bytes": 1_100_000_000,
        },
    },
    "search": {
        "awq": {
            "found": "{kind: awq, calibration_rows: 128, group_size: 32}",
            "tried": [
                {
                    "written": "{kind: awq}",
                    "agreement": 0.61,
                    "bytes": 121_000_000,
                    "kl": 0.62,
                    "scores": {
                        "heldout.exact_match": {
                            "n": 400,
                            "base": 0.912,
                            "tuned": 0.7025,
                            "delta": -0.21,
                            "ci95": [-0.25, -0.17],
                            "p_value": 0.0001,
                        },
                    },
                    "refused": ["heldout.exact_match falls behind: 0.703 where the trained form has 0.912"],
                },
                {
                    "written": "{kind: awq, calibration_rows: 128}",
                    "agreement": None,
                    "bytes": None,
                    "refused": ["it cannot be made, or not be opened: out of rows"],
                },
                {
                    "written": "{kind: awq, calibration_rows: 128, group_size: 32}",
                    "agreement": 0.97,
                    "bytes": 124_000_000,
                    "kl": 0.04,
                },
            ],
        },
    },
    "steps": [
        {"name": "fetch", "seconds": 21.4, "peak_rss_bytes": 1_100_000_000},
        {"name": "prepare", "seconds": 1.2, "peak_rss_bytes": 640_000_000},
        {"name": "evaluate-base", "seconds": 48.0, "peak_rss_bytes": 1_460_000_000},
        {"name": "train", "seconds": 312.6, "peak_rss_bytes": 2_870_000_000},
        {"name": "evaluate-tuned", "seconds": 55.1, "peak_rss_bytes": 1_500_000_000},
        {"name": "parity", "seconds": None, "peak_rss_bytes": None},
    ],
    "machine": {"cores": 2, "cpu": "x86_64 with AVX-512", "threads": 2, "device": "cpu"},
    "substituted": [
        {
            "what": "optimizer",
            "asked": "paged_adamw_8bit",
            "got": "adamw_8bit",
            "why": "bitsandbytes has no paged memory on a CPU. The result is the same; memory is not moved out.",
        }
    ],
    "libraries": {"torch": "2.13.0", "transformers": "5.24.0", "peft": "0.21.2", "trl": "1.16.0"},
    "spec_text": SPEC,
}
