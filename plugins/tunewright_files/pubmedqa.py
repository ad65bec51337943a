"""`pubmedqa`: the labelled questions of PubMedQA as they are published, with the official test ids or all but these.

The file is `ori_pqal.json`, 1,000 entries by their PubMed ids, or any of its form, as a training fold; the ids stand in
`test_ground_truth.json`. Source: Jin et al., PubMedQA: A Dataset for Biomedical Research Question Answering, EMNLP
2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from tunewright.digest import digest_file, digest_json
from tunewright.parts import SpecPath
from tunewright.parts.base import BadOption, Json
from tunewright.parts.data_source import Broken, Row
from tunewright_files.file import HEAD_BYTES, FileOptions, readable
from tunewright_files.published import Unfit, one_of, text_at, texts_at
from tunewright_files.stream import Cut, JsonText
from tunewright_files.streamed import StreamedJson
from tunewright_files.values import row_of

LABELS = ("yes", "no", "maybe")


class PubMedQaOptions(FileOptions):
    """Options of a pubmedqa source."""

    kind: str = "pubmedqa"
    ids: Annotated[
        SpecPath | None,
        Field(description="A JSON object of ids and labels, as `test_ground_truth.json`; at most 64 KiB."),
    ] = None
    part: Annotated[
        Literal["test", "rest"] | None,
        Field(validate_default=True, description="Of `ids`: the entries that it names, or all others."),
    ] = None

    @field_validator("part")
    @classmethod
    def _part_of_ids(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "ids" not in info.data:
            return value  # what is wrong with `ids` is said already
        if value is None and info.data["ids"] is not None:
            raise PydanticKnownError("missing")
        if value is not None and info.data["ids"] is None:
            raise ValueError("which entries these are stands in a file: name it, as in `ids: test_ground_truth.json`")
        return value


class PubMedQa(StreamedJson):
    """A row an entry: a question, the abstract without its conclusion, that conclusion, and its label."""

    kind = "pubmedqa"
    Options: ClassVar = PubMedQaOptions
    options: PubMedQaOptions
    reads = frozenset({"path", "ids", "part"})
    vary: ClassVar = {"part": ("test", "rest")}
    columns = ("pubid", "question", "context", "label", "long_answer")
    a_row = (
        "an entry of PubMedQA has `QUESTION`, `CONTEXTS`, `LONG_ANSWER` and `final_decision`; others are `kind: json`"
    )

    def digest(self) -> str:
        own, ids = super().digest(), self.options.ids
        return own if ids is None else digest_json([own, digest_file(readable(ids.path, ids.written, "ids"))])

    def pieces(self, text: JsonText) -> Iterator[Row | Broken]:
        if text.peek() != "{":
            text.refuse("the entries of PubMedQA are an object, by their ids", fix=self.a_row)
        named = None if self.options.ids is None else self._named(self.options.ids)
        seen = set[str]()
        for key in text.members():
            if named is not None and (key in named) != (self.options.part == "test"):
                text.skip()
            else:
                yield self._row(key, text.value(), key in seen, named or {})
            seen.add(key)
        text.finish()
        self._refuse_absent(named or {}, seen)

    def _row(self, key: str, value: Json, again: bool, named: Mapping[str, str]) -> Row | Broken:
        shown = key.encode(errors="backslashreplace").decode()  # half of a character is in no file's encoding
        origin = f"{self.name}: {shown}"
        if again:
            return Broken(origin, "the id stands in the file a second time")
        found = row_of(origin, value)
        if isinstance(found, Broken):
            return found
        try:
            label = one_of(found.fields, "final_decision", LABELS)
            if label != named.get(key, label):
                raise Unfit(f"`final_decision` is `{label}`, and `ids` says `{named[key]}`: they are of two versions")
            fields = {
                "pubid": key,
                "question": text_at(found.fields, "QUESTION"),
                "context": "\n".join(texts_at(found.fields, "CONTEXTS")),
                "label": label,
                "long_answer": text_at(found.fields, "LONG_ANSWER"),
            }
        except Unfit as error:
            return Broken(origin, str(error))
        return row_of(origin, fields)

    def _named(self, ids: SpecPath) -> Mapping[str, str]:
        """The label that the file of ids has for each. Raises `BadOption` at `ids`."""
        with readable(ids.path, ids.written, "ids").open("rb") as file:
            text, named = JsonText(file, ids.path.name, HEAD_BYTES), dict[str, str]()
            try:
                for key in text.members():
                    label = text.value()
                    if label not in LABELS:
                        text.refuse(f"`{key}` should be one of {', '.join(LABELS)}")
                    named[key] = label
                text.finish()
            except Cut as error:
                message = f"`{ids.written}` has more than {HEAD_BYTES // 1024} KiB: it holds more than ids and labels"
                raise BadOption("bad-json", message, "ids") from error
            except BadOption as error:
                code, message, _, fix, _ = error.finding
                raise BadOption(code, message, "ids", fix or 'it is an object as {"21645374": "yes"}') from error
        if not named:
            raise BadOption("no-rows", f"`{ids.written}` names no id", "ids")
        return named

    def _refuse_absent(self, named: Mapping[str, str], seen: set[str]) -> None:
        if absent := [key for key in named if key not in seen]:
            more = f" and {len(absent) - 1:,} more" if absent[1:] else ""
            message = f"`{self.name}` has no entry `{absent[0]}`{more}, which `ids` names"
            raise BadOption("value-never-occurs", message, "ids", "name the ids that were published with this file")
