"""`plan` says what computing shared beginnings once saves, as it was measured on the prepared rows."""

from __future__ import annotations

from tunewright.cli.tables import prefix_line


def test_a_line_names_batches_and_orders() -> None:
    found = {"shuffled": {"8": 3.31, "32": 4.94}, "by_prefix": {"8": 4.02, "32": 5.2}, "option": "`order: by_prefix`"}
    assert prefix_line("prepare", found) == (
        "prepare: shared beginnings leave 3.3x/4.9x fewer tokens in batches of 8/32 rows, "
        "4.0x/5.2x with `order: by_prefix`"
    )


def test_a_trainer_without_such_an_option_names_none() -> None:
    found = {"shuffled": {"8": 3.31}, "by_prefix": {"8": 4.02}, "option": ""}
    assert prefix_line("prepare-kto", found).endswith("3.3x fewer tokens in batches of 8 rows")
