"""`tatqa`: questions on the tables and texts of financial reports, as TAT-QA publishes them; a row a question.

A file is a list of documents, each with a table, paragraphs and about six questions. Source: Zhu et al., TAT-QA: A
Question Answering Benchmark on a Hybrid of Tabular and Textual Content in Finance, ACL 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from tunewright.parts.base import BadOption, Json
from tunewright.parts.data_source import Broken, Row
from tunewright_files.file import FileOptions
from tunewright_files.published import Unfit, at, one_of, text_at, texts_at
from tunewright_files.stream import JsonText
from tunewright_files.streamed import StreamedJson
from tunewright_files.values import row_of

AnswerType = Literal["span", "multi-span", "arithmetic", "count"]
SCALES = ("", "thousand", "million", "billion", "percent")
OF_SPANS = ("span", "multi-span")


class TatQaOptions(FileOptions):
    """Options of a tatqa source."""

    kind: str = "tatqa"
    answer_types: Annotated[
        list[AnswerType],
        Field(
            min_length=1,
            description="Questions to take, by what answers them: words or figures that stand there (span, multi-span),"
            " a computed figure (arithmetic) or a number of things (count).",
        ),
    ] = list(get_args(AnswerType))


class TatQa(StreamedJson):
    """A row a question. Those on one document stand or fall together: the document's id is their group."""

    kind = "tatqa"
    Options: ClassVar = TatQaOptions
    options: TatQaOptions
    reads = frozenset({"path", "answer_types"})
    columns = (
        "document", "context", "question", "answer", "answer_text", "answer_type", "answer_from", "scale", "derivation",
    )  # fmt: skip
    a_row = "a document of TAT-QA has `table`, `paragraphs` and `questions`; other files are `kind: json`"

    def pieces(self, text: JsonText) -> Iterator[Row | Broken]:
        if text.peek() != "[":
            text.refuse("the documents of TAT-QA are a list", fix=self.a_row)
        for number in text.elements():
            yield from self._document(f"{self.name}: item {number}", text.value())
        text.finish()

    def _document(self, origin: str, value: Json) -> Iterator[Row | Broken]:
        document = row_of(origin, value)
        if isinstance(document, Broken):
            yield document
            return
        try:
            table = at(document.fields, "table")
            shared = {"document": text_at(table, "uid"), "context": context_of(document.fields)}
            questions = at(document.fields, "questions")
            if not isinstance(questions, list):
                raise Unfit("`questions` should be a list")
        except Unfit as error:
            yield Broken(origin, str(error))
            return
        for number, question in enumerate(questions, 1):
            yield from self._question(f"{origin}, question {number}", question, shared)

    def _question(self, origin: str, question: Json, shared: Mapping[str, str]) -> Iterator[Row | Broken]:
        """The row of a question, or nothing where it is of no chosen type."""
        try:
            kind = one_of(question, "answer_type", get_args(AnswerType))
            if kind in self.options.answer_types:
                scale = one_of(question, "scale", SCALES)
                answer = answer_of(question, kind)
                fields = {
                    **shared,
                    "question": text_at(question, "question"),
                    "answer": answer,
                    "answer_text": in_words(answer, scale),
                    "answer_type": kind,
                    "answer_from": text_at(question, "answer_from"),
                    "scale": scale,
                    "derivation": at(question, "derivation"),
                }
                yield Row(origin, origin, fields, shared["document"])
        except Unfit as error:
            yield Broken(origin, str(error))

    def _nothing(self) -> BadOption:
        wanted = ", ".join(self.options.answer_types)
        return BadOption("no-rows", f"`{self.name}` holds no question of type {wanted}", "answer_types")


def context_of(document: Mapping[str, Json]) -> str:
    """The table, a line a row with ` | ` between its cells, an empty line, and the paragraphs in their order.

    White space in a cell becomes one space, so that a line is a row. Raises `Unfit`.
    """
    rows = at(at(document, "table"), "table")
    if not isinstance(rows, list) or not all(isinstance(row, list) and _all_cells(row) for row in rows):
        raise Unfit("`table.table` should be a list of rows, each a list of cells")
    table = "\n".join(" | ".join(" ".join(str(cell).split()) for cell in row).strip() for row in rows)
    paragraphs = at(document, "paragraphs")
    if not isinstance(paragraphs, list) or not all(isinstance(at(one, "order"), int) for one in paragraphs):
        raise Unfit("`paragraphs` should be a list of paragraphs, each with its `order`")
    texts = [text_at(one, "text") for one in sorted(paragraphs, key=lambda one: one["order"])]
    return "\n\n".join(filter(None, (table, "\n".join(texts))))


def _all_cells(row: list[Json]) -> bool:
    return all(isinstance(cell, str | int | float) for cell in row)


def answer_of(question: Mapping[str, Json], kind: str) -> str | list[str]:
    """The spans, or the number as the file writes it. Raises `Unfit`."""
    if kind in OF_SPANS:
        return texts_at(question, "answer")
    found: Any = at(question, "answer")
    if isinstance(found, bool) or not isinstance(found, int | float | str) or not str(found).strip():
        raise Unfit(f"`answer` of a question of type {kind} should be a number")
    return str(found)


def in_words(answer: str | list[str], scale: str) -> str:
    """The whole answer as one text: several spans with `; ` between them, and the scale at the end."""
    said = answer if isinstance(answer, str) else "; ".join(answer)
    return f"{said} {scale}".strip()
