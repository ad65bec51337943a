"""Near duplicates: what is found is near by its own shingles, what is near is found, quotes are known in long rows."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from itertools import combinations

import pytest

from tunewright.data.near import (
    AT_ONCE,
    BANDS,
    LONG,
    MOST,
    ROWS,
    THRESHOLD,
    WHOLE,
    Match,
    jaccard,
    near,
    parts,
    quotes,
    similarity,
)
from tunewright.data.own import words

PARCEL = "I ordered a lamp two weeks ago and it still has not come, can you tell me where the parcel is now"


def drawn(count: int, length: int, rng: random.Random) -> list[str]:
    return ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(count * length)]


def texts(count: int, length: int, seed: int = 0) -> list[list[str]]:
    flow = iter(drawn(count, length, random.Random(seed)))
    return [[next(flow) for _ in range(length)] for _ in range(count)]


def other_words(text: list[str], count: int, rng: random.Random) -> list[str]:
    changed = list(text)
    for place in rng.sample(range(len(text)), count):
        changed[place] = "qxz" + changed[place]
    return changed


def test_case_width_space_and_marks_make_no_other_text():
    shown = [words(PARCEL), words("something else is asked here by someone")]
    asked = [words(PARCEL.upper().replace(" ", "  \n")), words("Ｉ" + PARCEL[1:] + " …?!")]
    assert near(shown, asked).matches == {0: [Match(0, "exact", 1.0)], 1: [Match(0, "exact", 1.0)]}


@pytest.mark.parametrize(
    ("one", "other"), [("3 + 4", "3 - 4"), ("2 * (3 + 4)", "(2 * 3) + 4"), ("$1.5", "$15"), ("€20", "$20")]
)
def test_signs_that_change_what_is_asked_are_kept(one, other):
    assert words(f"what is {one}?") != words(f"what is {other}?")


def test_an_apostrophe_is_one_however_it_is_written():
    assert words("I don't") == words("I don’t") == words("I dont")


def test_another_word_among_twenty_is_near_and_another_question_is_not():
    found = near([words(PARCEL), words("I ordered a chair and want to send it back, how do I do that")],
                 [words(PARCEL.replace("lamp", "table"))])  # fmt: skip
    ((match,),) = found.matches.values()
    assert (match.place, match.kind) == (0, "near")
    assert THRESHOLD <= match.similarity < 1


def test_nothing_is_called_near_that_is_not_by_its_own_shingles():
    """Rows just under the threshold are candidates often, and found never."""
    rng, shown = random.Random(1), texts(60, 20)
    asked = [other_words(text, 3, rng) for text in shown]
    by_hand = [similarity(" ".join(one), " ".join(other)) for one, other in zip(shown, asked, strict=True)]
    assert sum(0.6 < value < THRESHOLD for value in by_hand) > 20
    found = near(shown, asked).matches
    assert set(found) == {place for place, value in enumerate(by_hand) if value >= THRESHOLD}
    assert all(match.similarity == by_hand[item] for item, (match,) in found.items())


@pytest.mark.parametrize("length", [12, LONG + 10], ids=["short", "long"])
def test_what_a_comparison_of_all_pairs_finds_is_found(length):
    rng, shown = random.Random(2), texts(150, length)
    shown += [other_words(text, rng.randint(1, 2), rng) for text in shown]
    pairs = {
        (one, other)
        for one, other in combinations(range(len(shown)), 2)
        if similarity(" ".join(shown[one]), " ".join(shown[other])) >= THRESHOLD
    }
    assert len(pairs) > 80
    found = {pair for group in near(shown).groups for pair in combinations(group, 2)}
    assert found == pairs


def test_a_pair_at_the_threshold_is_hardly_ever_missed():
    assert (1 - THRESHOLD**ROWS) ** BANDS < 1 / 1_700


def test_a_short_text_is_near_to_one_that_is_just_long():
    rng = random.Random(3)
    long = texts(1, LONG + 1)[0]
    short = long[:-3]
    assert len(short) < LONG <= len(long)
    assert set(near([long], [short]).matches) == set(near([short], [long]).matches) == {0}
    assert set(near([long], [other_words(long, 1, rng)]).matches) == {0}


def test_scripts_without_spaces_are_compared_by_their_characters():
    asked = "私の荷物がまだ届いていません。いつ届くか教えてください"
    other = "返品したいのですが、どのような手続きが必要でしょうか"
    found = near([words(asked.replace("まだ", "未だ")), words(other)], [words(asked)])
    assert [match.place for match in found.matches[0]] == [0]


def test_groups_hold_what_is_near_through_others_and_tell_equal_rows_apart():
    rng = random.Random(4)
    first, alone = texts(2, 20)
    second = other_words(first, 1, rng)
    third = ["zz" + second[0], *second[1:]]
    found = near([alone, third, first, second, first])
    assert found.groups == [[1, 2, 3, 4]]
    assert found.equal == [[2, 4]]


def test_a_mass_of_rows_that_are_alike_takes_no_square_of_time():
    text = texts(1, 30)[0]
    shown = [[*text[:-1], f"{place:06}"] for place in range(10 * MOST)]
    found = near(shown, [[*text[:-1], "999999"]])
    assert max(map(len, found.groups)) > MOST
    assert len(found.matches[0]) == len(shown)  # nothing is cut where items are concerned


def test_texts_without_a_word_are_near_to_nothing():
    found = near([[], [], ["a"]], [[]])
    assert (found.equal, found.groups, found.matches) == ([], [], {})


def test_two_short_texts_are_one_or_not():
    assert near([["yes"], ["no"]], [["yes"]]).matches == {0: [Match(0, "exact", 1.0)]}


def test_an_item_is_known_in_a_long_row():
    row = [*texts(1, 400, seed=5)[0], *words(PARCEL), *texts(1, 400, seed=6)[0]]
    item, changed = words(PARCEL), [*words(PARCEL)[:-1], "today"]
    assert near([row], [item]).matches == {}
    found = list(
        quotes([texts(1, 400, seed=7)[0], row], [item, changed, words("I want my money back this week please")])
    )
    assert [(quote.item, quote.row) for quote in found] == [(0, 1), (1, 1)]
    assert found[0].share == 1 > found[1].share >= THRESHOLD


def test_few_words_are_quoted_by_chance_and_looked_for_nowhere():
    row = words("it says where is my parcel and so on and so forth")
    assert list(quotes([row], [words("where is my parcel and so on")])) == []
    assert len(list(quotes([row], [words("where is my parcel and so on and")]))) == 1


def test_no_quote_is_lost_by_looking_up_the_rarest_runs_only():
    rng = random.Random(8)
    lexicon = [f"w{number}" for number in range(30)]  # so few that runs repeat over items
    items = [rng.choices(lexicon, k=rng.randint(8, 30)) for _ in range(60)]
    rows = [[*rng.choices(lexicon, k=20), *other_words(item, rng.randint(0, 1), rng)] for item in items for _ in "ab"]

    def runs(text):
        return {tuple(text[place : place + 5]) for place in range(len(text) - 4)}

    by_hand = {
        (item, row)
        for row, text in enumerate(rows)
        for item, asked in enumerate(items)
        if len(runs(asked) & runs(text)) >= len(runs(asked)) * (THRESHOLD if len(asked) >= WHOLE else 1)
    }
    assert {(quote.item, quote.row) for quote in quotes(rows, items)} == by_hand
    assert len(by_hand) > 60


def test_a_short_item_is_quoted_whole_or_not_at_all():
    row = words("please tell me how do I know when my card will arrive and so on")
    assert len(list(quotes([row], [words("how do I know when my card will arrive")]))) == 1
    assert list(quotes([row], [words("how do I know when my card will expire")])) == []


def test_a_question_without_its_choices_is_a_part_of_the_item_that_lists_them():
    question = "Which of these planets is the largest one of our system and has a great red spot"
    item = words(
        f"{question}? A. Mars, the red one B. Jupiter, named after a god C. Venus D. Mercury, the smallest one"
    )
    other = words("Which of these planets is the nearest to the sun? A. Mars B. Jupiter C. Venus D. Mercury")
    (found,) = parts([texts(1, 40, seed=3)[0], words(question)], [other, item])
    assert (found.item, found.row) == (1, 1)
    assert 0.4 <= found.share < 0.7


def test_a_small_part_of_an_item_is_what_people_say_anyway():
    (said,) = texts(1, 40, seed=5)
    assert [len(list(parts([said[:length]], [said]))) for length in (7, 17, 18, 19, 20)] == [0, 0, 0, 1, 1]
    assert list(parts([said[:7]], [said[:9]])) == []  # too few words to be looked for
    assert list(parts([[*said[:18], "but", "not"]], [said[:22]])) != []
    assert list(parts([[*said[:17], "else"]], [said[:22]])) == []  # a row of fewer than 20 words is there as a whole


def test_another_process_makes_the_same_candidates():
    """Python's own hashes differ from process to process."""
    code = (
        "from tunewright.data.near import _WAYS; import random; r = random.Random(9);"
        "texts = [' '.join(str(r.randrange(60)) for _ in range(n)) for n in (3, 20, 60)];"
        "keys = [way.keys(way.chosen(texts)).tolist() for way in _WAYS]"
    )
    here: dict = {}
    exec(code, here)
    environment = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print(keys)"], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == str(here["keys"])
    assert [len(some) for some in here["keys"]] == [3, 1]  # texts of 50 words may still be near to short ones


def test_jaccard_is_that_of_the_sets():
    assert jaccard({1, 2, 3}, {2, 3, 4}) == 0.5
    assert jaccard(set(), set()) == 0.0


def test_a_row_as_long_as_a_book_takes_little_memory():
    book = texts(1, 3 * AT_ONCE, seed=10)[0]
    other = [*book[: len(book) // 2], "another", "word", *book[len(book) // 2 :]]
    tracemalloc.start()
    try:
        assert len(near([book, other]).groups) == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * AT_ONCE * BANDS * ROWS * 4  # bytes of all minima of one row's shingles, as one table
