"""How long the search for near duplicates takes, and what it misses of what a comparison of all pairs finds.

python tests/bench/near_time.py [--rows N] [--sample N]

100,000 rows of about 20 words, a tenth of them another with one word replaced, and 1,000 items: at most 60 s of one
processor. Of a sample, all pairs are compared: at least 99 % of the near ones are in one group.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from itertools import combinations

from tunewright.data.near import THRESHOLD, near, quotes, similarity
from tunewright.data.own import Common, words

LIMIT_S, RECALL = 60, 0.99


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
    rows = make_rows(asked.rows + 1_000, random.Random(0))
    start, spent = time.perf_counter(), time.process_time()
    texts = [words(row) for row in rows]
    common = Common([texts[1_000:], texts[:1_000]])
    own = [common.own(text) for text in texts]
    items, shown = own[:1_000], own[1_000:]
    found = near(shown, items)
    quoted = sum(1 for _ in quotes(shown, items))
    seconds, spent = time.perf_counter() - start, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(shown):,} rows, {len(items):,} items: {seconds:.1f} s ({spent:.1f} s of the processor), {peak:.0f} MiB"
    )
    print(f"{len(found.groups):,} groups; {len(found.matches):,} items near a row, {quoted:,} times one is in a row")
    pairs, kept = recall(shown[: asked.sample])
    print(f"of {asked.sample:,} rows, all pairs: {pairs} are near, {kept} of them found")
    return int(spent > LIMIT_S or kept < RECALL * pairs)  # others may be at work here too


if __name__ == "__main__":
    sys.exit(main())
