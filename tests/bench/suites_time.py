"""How long the four suites take, base and tuned together: at most six minutes on two cores.

    python tests/bench/suites_time.py MODEL ADAPTER [--every N] [--dtype fp32]

Through the contract, as an evaluation asks: the engine is opened for the base and for the tuned form, and each suite
measured. The time to load both is in the total. `--every 4` asks every fourth item, for a look during development.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from tunewright.host import Host
from tunewright.parts.engine import Served

SUITES = ("legal", "finance", "medical", "support")
LIMIT_S, ITEMS = 360, 160


def main() -> int:
    """Print a line for each form and suite, and the total."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--dtype", default="fp32")
    given = parser.parse_args()
    host = Host()
    base = Served(
        given.model,
        host.make("loader", {"kind": "transformers"}),
        host.make("quantizer", {"kind": "none"}),
        given.dtype,
    )
    tuned = base._replace(method=host.make("adapter", {"kind": "lora", "r": 16, "alpha": 32}), trained=given.adapter)
    print(f"threads {torch.get_num_threads()}, torch {torch.__version__}")
    begun, spent = time.perf_counter(), time.process_time()
    count = sum(form(host, name, served, given.every) for name, served in {"base": base, "tuned": tuned}.items()) // 2
    total, spent = time.perf_counter() - begun, time.process_time() - spent
    print(f"{count} items, base and tuned: {total:.0f} s, of the processors {spent:.0f} s")
    if given.every > 1:
        return 0
    return int(total > LIMIT_S or count < ITEMS)


def form(host: Host, name: str, served: Served, every: int) -> int:
    """Ask one form; how many items."""
    begun, count = time.perf_counter(), 0
    with host.make("engine", {"kind": "transformers"}).open(served) as subject:
        print(f"{name:6}opened{time.perf_counter() - begun:18.1f} s", flush=True)
        for suite in SUITES:
            begun, evaluator = time.perf_counter(), host.make("evaluator", {"kind": "suite", "name": suite})
            items = list(evaluator.items([]))[::every]
            evaluator.items = lambda data, items=items: items
            graded = evaluator.measure(subject, [], lambda done, of: None)
            seconds, tokens = time.perf_counter() - begun, sum(len(each.answer.ids) for each in graded)
            score = evaluator.summaries()["score"](graded)
            print(
                f"{name:6}{suite:9}{seconds:7.1f} s{len(items):5} items{tokens:7,} tokens   score {score:.3f}",
                flush=True,
            )
            count += len(items)
    return count


if __name__ == "__main__":
    sys.exit(main())
