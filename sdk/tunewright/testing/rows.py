"""The kit for what brings rows and what makes examples of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tunewright.errors import TunewrightError
from tunewright.parts import DataSource, PromptFormat, SpecPath
from tunewright.parts.data_source import Broken, Row
from tunewright.parts.prompt_format import Example, Feedback, Preference, RowKind
from tunewright.testing.compare import difference
from tunewright.testing.desk import Desk, unwatched
from tunewright.testing.samples import ROWS, Fields
from tunewright.testing.trial import Attempt, Exercise, Make
from tunewright.testing.violations import Report

HEAD_BYTES = 64 * 1024
SLACK = 64 * 1024  # bytes: what a reader may take more than it asked for
LARGE = 512 * 1024  # bytes: a file of which reading all shows
COUNTER = Path("/proc/self/io")
LETTERS = b"abcdefghijklmnopqrstuvwxyz"
GARBAGE = bytes(range(256)) * 8
MADE: Mapping[str, type] = {
    **dict.fromkeys(get_args(RowKind), Example), "preference": Preference, "feedback": Feedback
}  # fmt: skip
"""What rows of each kind are made of."""
PAIRED = ("preference", "feedback")
"""Kinds whose rows may be conversations or plain text, and whose completions are one answer each."""


class DataSourceExercise(Exercise):
    """Heads, digests and rows, of the given file and of copies of it."""

    part = "data_source"

    def run(self, made: DataSource, desk: Desk, report: Report) -> Any:
        head, rows = made.head(), list(made.rows())
        whole = [row for row in rows if isinstance(row, Row)]
        for what, found in (("id", [row.id for row in whole]), ("origin", [row.origin for row in whole])):
            twice = sorted({value for value in found if found.count(value) > 1})
            says = f"two rows have the {what} `{twice[0] if twice else ''}`: a person must find each row by it"
            report.expect(not twice, "rows-not-told-apart", says)
        self._head(head, whole, report)
        for path in _paths(made):
            self._copies(made, path, desk, report)
        again = [row.id for row in made.rows() if isinstance(row, Row)]
        says = "`rows` gives other rows when it is called again: each call starts anew"
        report.expect(again == [row.id for row in whole], "rows-change", says)
        return {
            "name": made.name, "digest": made.digest(), "columns": list(head.columns),
            "head": [dict(fields) for fields in head.rows],
            "rows": [(row.id, row.origin, row.group, dict(row.fields)) for row in whole],
            "broken": [tuple(row) for row in rows if isinstance(row, Broken)],
        }  # fmt: skip

    def _head(self, head: Any, rows: Sequence[Row], report: Report) -> None:
        for row in rows[: len(head.rows) or 1]:
            unknown = sorted(set(row.fields) - set(head.columns))
            says = f"`head` does not name the column `{', '.join(unknown)}` of {row.origin}: a spec that uses it fails"
            report.expect(not unknown, "head-differs", says)
        firsts = [dict(row.fields) for row in rows[: len(head.rows)]]
        where = difference([dict(fields) for fields in head.rows], firsts, "row")
        report.expect(not where, "head-differs", f"`head` and `rows` disagree on the first rows: {where}")

    def _copies(self, made: DataSource, name: str, desk: Desk, report: Report) -> None:
        """The digest is of the content alone; the head of a large file is read from its beginning."""
        original = getattr(made.options, name).path
        content = original.read_bytes()
        digest = made.digest()
        says = "the digest of a copy with another date is another: it must be of the content alone"
        copied = _moved(made, name, desk, content).digest()
        report.expect(copied == digest, "digest-of-more-than-content", says)
        self._sees(made, name, desk, content, report)
        whole = content.rstrip(b"\n") + b"\n"
        line = whole[:-1].rpartition(b"\n")[2] + b"\n"
        longer = _moved(made, name, desk, whole + line)
        if not _grew(longer, made):
            return  # a format of which the last line is not the last row
        says = "the digest stays as it is when a row is added: a run would not notice other data"
        report.expect(longer.digest() != digest, "digest-misses-content", says)
        large = whole + line * (LARGE // len(line))
        self._frugal(_moved(made, name, desk, large), report)
        self._sees(made, name, desk, large, report)

    def _sees(self, made: DataSource, name: str, desk: Desk, content: bytes, report: Report) -> None:
        """The digest sees one letter at the end of a file that is as long as before."""
        place = max((place for place, byte in enumerate(content) if byte in LETTERS), default=None)
        if place is None:
            return  # no text
        other = bytes([LETTERS[LETTERS.index(content[place]) - 1]])
        digests, rows = [], []
        for one in (content, content[:place] + other + content[place + 1 :]):
            moved = _moved(made, name, desk, one)
            digests.append(moved.digest())
            rows.append(_fields(moved))
        says = "the digest stays as it is when a letter is another one and the file as long as before"
        report.expect(rows[0] == rows[1] or digests[0] != digests[1], "digest-misses-content", says)

    def _frugal(self, large: DataSource, report: Report) -> None:
        if not COUNTER.exists():
            return  # a system that does not count
        before = _bytes_read()
        large.head()
        read = _bytes_read() - before
        says = f"`head` read {read >> 10} KiB of a file of {LARGE >> 10}: read at most {HEAD_BYTES >> 10} KiB"
        report.expect(read <= HEAD_BYTES + SLACK, "head-reads-too-much", says)

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        for name in _paths(make()):
            for what, path in _bad_files(desk):
                for method in ("head", "digest", "rows"):
                    yield Attempt(f"{what} as `{name}`", partial(_use, make, {name: path}, method))


def _use(make: Make, changes: dict[str, str], method: str) -> None:
    found = getattr(make(**changes), method)()
    if method == "rows":
        list(found)


def _fields(source: DataSource) -> list[dict[str, Any]]:
    """The rows' fields; none where it cannot be read."""
    try:
        return [dict(row.fields) for row in source.rows() if isinstance(row, Row)]
    except TunewrightError:
        return []


def _grew(longer: DataSource, made: DataSource) -> bool:
    """Whether a line more is a row more."""
    try:
        rows = list(longer.rows())
    except TunewrightError:
        return False
    return len(rows) == len(list(made.rows())) + 1 and not any(isinstance(row, Broken) for row in rows)


def _paths(made: DataSource) -> list[str]:
    """Fields that name a file that is there."""
    fields = type(made.options).model_fields
    values = {name: getattr(made.options, name) for name in fields}
    return [name for name, value in values.items() if isinstance(value, SpecPath) and value.path.is_file()]


def _moved(made: Any, name: str, desk: Desk, content: bytes) -> Any:
    """The source with another file of the same name, an old one."""
    path = desk.keep("copy") / getattr(made.options, name).path.name
    with unwatched():
        path.write_bytes(content)
        os.utime(path, (1, 1))
    return type(made)(made.options.model_copy(update={name: SpecPath(str(path), path.parent)}))


def _bad_files(desk: Desk) -> Iterator[tuple[str, str]]:
    """Files that are none: what a client's folder holds sooner or later."""
    folder = desk.keep("bad")
    with unwatched():
        (folder / "empty").touch()
        (folder / "garbage").write_bytes(GARBAGE)
        (folder / "folder").mkdir()
    yield "a file that is not there", str(folder / "missing")
    for name in ("empty", "garbage", "folder"):
        yield f"{'an' if name == 'empty' else 'a'} {name} file" if name != "folder" else "a folder", str(folder / name)


def _bytes_read() -> int:
    return int(COUNTER.read_text().split()[1])


class PromptFormatExercise(Exercise):
    """Examples of rows that note which columns are read, and of rows that lack one."""

    part = "prompt_format"

    def __init__(self, rows: Sequence[Fields] | None = None) -> None:
        self.rows = rows

    def run(self, made: PromptFormat, desk: Desk, report: Report) -> Any:
        columns, asked = made.columns(), made.prompt_columns()
        fields = type(made.options).model_fields
        for column, option in sorted(columns.items()):
            says = f"`columns` says that the field `{option}` names `{column}`: there is no such field"
            report.expect(option.partition(".")[0] in fields, "bad-contract", says)
        extra = sorted(set(asked) - set(columns))
        says = f"`prompt_columns` names `{', '.join(extra)}`, which `columns` does not"
        report.expect(not extra, "columns-not-declared", says)
        known = ", ".join(MADE)
        report.expect(made.makes in MADE, "bad-contract", f"`makes` is {made.makes!r}, it must be one of {known}")
        rows = self._rows(columns)
        for column in sorted(columns):
            says = f"another text in the column `{column}` makes no difference: name no column that is not used"
            report.expect(_matters(made, rows, column), "column-ignored", says)
        return [self._one(made, row, report) for row in rows]

    def _rows(self, columns: Mapping[str, str]) -> list[dict[str, Any]]:
        """The sample; columns that it does not have are filled with texts, where it is the kit's own."""
        if self.rows is not None:
            return [dict(row) for row in self.rows]
        named = [{column: f"{column} {number}" for column in columns} for number in range(len(ROWS))]
        return [{**filled, **row} for filled, row in zip(named, ROWS, strict=True)]

    def _one(self, made: PromptFormat, row: dict[str, Any], report: Report) -> Any:
        whole = Recording(row)
        example = made.example(whole)
        hidden = sorted(whole.read - set(made.columns()))
        says = f"`example` reads the column `{', '.join(hidden)}`, which `columns` does not name: it would fail late"
        report.expect(not hidden, "columns-not-declared", says)
        asked = Recording({name: value for name, value in row.items() if name in made.prompt_columns()})
        try:
            prompt = made.prompt(asked)
        except Exception as error:
            hidden = sorted(asked.read - set(made.prompt_columns()))
            says = f"`prompt` needs more than `prompt_columns` names ({', '.join(hidden) or error})"
            report.add("columns-not-declared", f"{says}: `predict` has no answers to give it")
            return [type(example).__name__, *example]
        if self._is_of_its_kind(made, example, report):
            says = "`prompt` differs from what `example` asks: a model would be trained on other questions than it gets"
            same = isinstance(prompt, str) if made.makes == "text" else prompt == example.asked
            report.expect(same, "prompt-differs", says)
        return [type(example).__name__, *example]

    def _is_of_its_kind(self, made: PromptFormat, example: Any, report: Report) -> bool:
        """Whether an example is what `makes` says, and each of its texts is a conversation or all are plain."""
        wanted = MADE.get(made.makes, Example)
        if not report.expect(
            isinstance(example, wanted), "bad-contract",
            f"`example` gives a {type(example).__name__}; `{made.makes}` rows are made of {wanted.__name__}s",
        ):  # fmt: skip
            return False
        texts = {name: text for name, text in example._asdict().items() if name != "label"}
        wrong = [sentence for name, text in texts.items() for sentence in _no_text(made.makes, name, text)]
        for sentence in wrong:
            report.add("bad-contract", sentence)
        whole = len({isinstance(text, str) for text in texts.values()}) == 1
        says = "`example` mixes conversations with plain text: all of a row is one or the other"
        report.expect(whole, "bad-contract", says)
        if isinstance(example, Feedback):
            says = f"`label` is {example.label!r}, and must be true or false"
            report.expect(isinstance(example.label, bool), "bad-contract", says)
        return whole and not wrong

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made = make()
        row = self._rows(made.columns())[0]
        for column in sorted(made.columns()):
            rest = {name: value for name, value in row.items() if name != column}
            yield Attempt(f"a row without `{column}`", partial(made.example, rest))
            for value in (None, "", 7, ["a", "list"]):
                bad = {**row, column: value}
                yield Attempt(f"a row whose `{column}` is {value!r}", partial(made.example, bad))


def _no_text(makes: str, name: str, text: Any) -> Iterator[str]:
    """What is wrong with one text of an example, `prompt` or a completion."""
    if isinstance(text, str):
        if makes == "messages":
            yield f"`{name}` is plain text: `messages` rows are conversations"
        elif makes == "text" and name == "prompt" and text:
            yield "`text` rows are learnt whole: their `prompt` is empty"
        elif not text and not (makes == "text" and name == "prompt"):
            yield f"an example has no {name}: nothing to {'ask' if name == 'prompt' else 'learn'}"
        return
    if not isinstance(text, list) or makes in ("completion", "text"):
        yield f"`{name}` is {text!r}: it must be {'a conversation or ' if makes in PAIRED else ''}plain text"
        return
    if not text:
        yield f"an example has no {name}: nothing to {'ask' if name == 'prompt' else 'learn'}"
        return
    for message in text:
        known = isinstance(message, Mapping) and message.get("role") in ("system", "user", "assistant")
        if not known or not isinstance(message.get("content"), str):
            yield f"{message!r} is no message: `role` and `content`, both texts"
            return
    if name != "prompt" and text[-1]["role"] != "assistant":
        yield f"`{name}` ends with the {text[-1]['role']}'s words: an answer is learnt"
    elif name != "prompt" and makes in PAIRED and len(text) > 1:
        yield f"`{name}` has {len(text)} messages: one answer is compared, the turns before it are the prompt"


def _matters(made: PromptFormat, rows: Sequence[dict[str, Any]], column: str) -> bool:
    """Whether an example changes, or is refused, when one column of its row holds another text."""
    for row in rows:
        try:
            if made.example({**row, column: f"{row.get(column)} changed"}) != made.example(row):
                return True
        except TunewrightError:
            return True
    return False


class Recording(Mapping[str, Any]):
    """A row that notes which of its columns are asked for."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields, self.read = fields, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        for name in self.fields:
            self.read.add(name)
            yield name

    def __len__(self) -> int:
        return len(self.fields)
