"""A library for evaluators: what an answer is worth beside a reference, by its words, number, structure, refusal.

    from tunewright.grading import text
    text.token_f1("about 3 minutes", ["3 minutes", "three minutes"])  # 0.8

Every function is pure, knows no model and imports nothing heavy. An evaluator whose grades come from here has `code()`
in its `versions`, for other code may be other grades.
"""

from functools import cache
from pathlib import Path

from tunewright.digest import digest_tree


@cache
def code() -> dict[str, str]:
    """The digest of this library's code, as `Backend.versions` has it."""
    folder = Path(__file__).parent
    return {"tunewright.grading": digest_tree(folder, sorted(folder.glob("*.py")))}
