"""What a user can do about a server, in the options of the engine that asks it."""

from __future__ import annotations

from typing import NamedTuple


class Remedies(NamedTuple):
    """A sentence for each trouble: an engine names its own options, and no others."""

    unreached: str
    """Nobody listens where the server should."""
    misplaced: str
    """It knows no such path."""
    strange: str
    """It does not speak as an OpenAI-compatible server does."""
    refused: str
    """It does not take what it is asked."""
    slow: str
    """It does not answer in time."""
    no_ids: str
    """It answers token ids with text alone."""
    retokenized: str
    """It reads another prompt than was sent."""
    busy: str
    """It says, again and again, that it has no room."""


BUSY = "see to the server; a smaller `concurrency` asks less of it at once"
ENDPOINT = Remedies(
    unreached="start the server, or mend `url`",
    misplaced="end `url` where the API begins, mostly in `/v1`",
    strange="check `url`, and whether a proxy or a login page stands between",
    refused="ask what the server takes: see `prompts`, and its longest context",
    slow="raise `timeout`, or lower `concurrency`: requests may wait for each other there",
    no_ids="set `prompts: text` in the engine, or serve it by one that gives `token_ids`, as vLLM does",
    retokenized="serve it with the tokenizer and the template of the package; `prompts: ids` depends on neither",
    busy=BUSY,
)
