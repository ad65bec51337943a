"""Packing: texts joined and cut into rows of one length, so that no batch pads and no long text is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunewright.errors import BadInput
from tunewright.parts.trainer import TokenRow


def pack(rows: Sequence[TokenRow], length: int) -> list[TokenRow]:
    """Join rows in their order and cut what comes into rows of exactly `length` tokens; the last may be shorter.

    Every token is kept once, its label beside it, and a text's `begin` where the text begins. Only a last row of one
    token is left out: nothing stands before it, so it bears no loss; nor does the first token of any other row.

    What is packed together is read together: a text attends to those before it in its row, and positions count on
    through them; only `end` and `begin` tell the model where one ends. That is how GPT-3 was pretrained: "sequences
    with multiple documents are not masked in any special way" (Brown et al. 2020, arXiv:2005.14165, appendix B).

    A packed row's id and origin are those of the first and the last text in it, `first..last`; where several rows
    lie within the same texts, `~2`, `~3` … tell their ids apart. Raises `BadInput` for a length under 2.
    """
    if length < 2:
        raise BadInput(f"texts cannot be packed into rows of {length} tokens", fix="raise `max_length`")
    taken: set[str] = set()
    return [_row(rows, first, last, ids, labels, taken) for first, last, ids, labels in _pieces(rows, length)]


def _pieces(rows: Sequence[TokenRow], length: int) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """(place of the first text, of the last, ids, labels) of each packed row."""
    ids: list[int] = []
    labels: list[int] = []
    first = 0
    for place, row in enumerate(rows):
        if not ids:
            first = place
        done = 0
        while done < len(row.ids):
            room = length - len(ids)
            ids += row.ids[done : done + room]
            labels += row.labels[done : done + room]
            done += room
            if len(ids) == length:
                yield first, place, ids, labels
                ids, labels, first = [], [], place
    if len(ids) > 1:
        yield first, len(rows) - 1, ids, labels


def _row(
    rows: Sequence[TokenRow], first: int, last: int, ids: list[int], labels: list[int], taken: set[str]
) -> TokenRow:
    names = [rows[first].row_id, rows[last].row_id]
    name = names[0] if first == last else "..".join(names)
    row_id, number = name, 1
    while row_id in taken:
        number += 1
        row_id = f"{name}~{number}"
    taken.add(row_id)
    origins = [rows[first].origin, rows[last].origin]
    return TokenRow(row_id, origins[0] if first == last else "..".join(origins), ids, labels)
