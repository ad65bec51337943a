"""A spec becomes backends: every problem at once, nothing heavy imported. This is what `validate` runs."""

from __future__ import annotations

from tunewright.resolve.resolve import once_pinned, part_of, resolve
from tunewright.resolve.resolved import Resolved, bare

__all__ = ["Resolved", "bare", "once_pinned", "part_of", "resolve"]
