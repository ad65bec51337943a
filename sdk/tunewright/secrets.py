"""Secrets: a spec names an environment variable, `${env:NAME}`, and its value is read only where it is used.

Every value that was read is remembered here, in this process alone, so that whatever writes or prints can put the name
back in its place. No file, log, error or package holds a value; `store/publish.py` refuses an output that does.
"""

from __future__ import annotations

import os
import re

from tunewright.errors import EnvironmentFault

REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
SHORTEST = 4  # characters: a shorter value would be found in every file, and keeps nothing secret

_revealed: dict[str, str] = {}


def reveal(text: str) -> str:
    """The text with every `${env:NAME}` replaced. Raises `EnvironmentFault` where a variable is not set."""
    return REFERENCE.sub(lambda match: _value(match[1]), text)


def _value(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise EnvironmentFault(f"the spec reads `{name}`, which is not set", fix=f"set it: export {name}=…")
    if len(value) >= SHORTEST:
        _revealed[value] = f"${{env:{name}}}"
    return value


def revealed() -> dict[str, str]:
    """Value → reference, the longest first: of two values, one may begin with the other."""
    return dict(sorted(_revealed.items(), key=lambda pair: -len(pair[0])))


def redact(text: str) -> str:
    """The text with every value that this process has read replaced by its reference."""
    for value, reference in revealed().items():
        text = text.replace(value, reference)
    return text
