"""What a user can do about a vLLM server: one of their own has no options of ours but its address."""

from __future__ import annotations

from tunewright_endpoint.remedies import BUSY, ENDPOINT, Remedies

NEWER = "serve it by vLLM 0.32 or a later one"
INSTALLED = "take the vLLM that `tunewright engines install vllm` installs"
OURS = Remedies(
    unreached="run again: the server that was started here does not listen any more",
    misplaced=f"{INSTALLED}: another one has other paths",
    strange=f"{INSTALLED}: another one may speak otherwise",
    no_ids=INSTALLED,
    retokenized=INSTALLED,
    refused="if it is too long, raise the engine's `context`; its own words say what else it does not take",
    slow="lower `concurrency`, or raise `cache_gib`: requests wait there for room in its cache",
    busy="lower `concurrency`, or raise `cache_gib`: it has no room for more at once",
)
"""Of a server that this run starts."""
YOURS = Remedies(
    unreached=ENDPOINT.unreached,
    misplaced=ENDPOINT.misplaced,
    strange=ENDPOINT.strange,
    no_ids=NEWER,
    retokenized=NEWER,
    refused="if it is too long, start the server with a larger `--max-model-len`; its own words say what else it does "
    "not take",
    slow="lower `concurrency`: requests may wait for each other there",
    busy=BUSY,
)
"""Of one that runs already, at `url`."""
