"""How long a run takes to look learnt questions up, and what it misses of the near rows.

python tests/bench/near_time.py [--rows N] [--sample N]

100,000 rows of about 20 words, a tenth of them another with one word replaced, and 1,000 items, by `ledger`, as
the step `contamination` calls it: rows become examples and words, and each way to stand in a row is looked for. At most
60 s of one processor. Of a sample, all pairs are compared: at least 99 % of the near ones are in one group.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from itertools import combinations

from tunewright.data.near import THRESHOLD, near, similarity
from tunewright.data.own import words
from tunewright.data.rows import Realised
from tunewright.host import Host
from tunewright.parts.data_source import Row
from tunewright.parts.evaluator import Item
from tunewright.pipeline.seen import KINDS, Learnt, ledger

LIMIT_S, RECALL = 60, 0.99
ITEMS, ANSWER = 1_000, "billing"


def make_rows(count: int, rng: random.Random) -> list[str]:
    """Words drawn as those of a language are, by Zipf's law; every tenth row is an earlier one with another word."""
    lexicon = ["".join(rng.choices("etaoinshrdlcumwfgypbvk", k=rng.randint(2, 10))) for _ in range(20_000)]
    chances = [1 / (place + 3) for place in range(len(lexicon))]
    flow = iter(rng.choices(lexicon, chances, k=27 * count))
    rows: list[list[str]] = []
    for place in range(count):
        row = [next(flow) for _ in range(rng.randint(14, 26))]
        if place % 10 == 9:
            row = list(rng.choice(rows))
            row[rng.randrange(len(row))] = rng.choice(lexicon)
        rows.append(row)
    return [" ".join(row) for row in rows]


def learnt(texts: list[str]) -> Learnt:
    """A training on them, each with the answer of all."""
    rows = [Row(str(place), f"train.csv:{place}", {"text": text, "queue": ANSWER}) for place, text in enumerate(texts)]
    form = Host().make("prompt_format", {"kind": "chat", "prompt": "{text}", "completion": "{queue}"})
    return Learnt("", form, [Realised("train.csv", rows, len(rows))])


def recall(texts: list[list[str]]) -> tuple[int, int]:
    """Near pairs of all pairs, and those of them that one group holds."""
    joined = [" ".join(text) for text in texts]
    group = {place: number for number, some in enumerate(near(texts).groups) for place in some}
    pairs = [
        (one, other)
        for one, other in combinations(range(len(joined)), 2)
        if similarity(joined[one], joined[other]) >= THRESHOLD
    ]
    return len(pairs), sum(group.get(one, -1) == group.get(other, -2) for one, other in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=2_000)
    asked = parser.parse_args()
    texts = make_rows(asked.rows + ITEMS, random.Random(0))
    items = [Item(str(place), str(place), text, ANSWER) for place, text in enumerate(texts[:ITEMS])]
    training = learnt(texts[ITEMS:])
    start, spent = time.perf_counter(), time.process_time()
    found = ledger([training], {"asked": items})
    seconds, spent = time.perf_counter() - start, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{asked.rows:,} rows, {ITEMS:,} items: {seconds:.1f} s ({spent:.1f} s of the processor), {peak:.0f} MiB")
    kinds = Counter(one["kind"] for one in found["evaluations"]["asked"]["found"])
    print(f"{found['trainings'][0]['groups']:,} groups; items: {', '.join(f'{kinds[kind]} {kind}' for kind in KINDS)}")
    pairs, kept = recall([words(text) for text in texts[ITEMS:][: asked.sample]])
    print(f"of {asked.sample:,} rows, all pairs: {pairs} are near, {kept} of them found")
    return int(spent > LIMIT_S or kept < RECALL * pairs)  # others may be at work here too


if __name__ == "__main__":
    sys.exit(main())
