"""Did you mean: the nearest known word, and the words that other tools use for the same thing."""

from __future__ import annotations

from collections.abc import Collection

MOST_SHOWN = 160  # characters of known words that a message lists
LONGEST = 60  # characters of a word that is compared with others
SOURCES = ("data.validation", "data.test", "evals.test")  # lists of rows, as `data.train` is


def did_you_mean(word: str, known: Collection[str], place: str | None = None) -> str:
    """A phrase with the likeliest meant word, or the known ones where none is near; empty where there are none.

    `place` says where in a spec the word was written as a key: `trainer`, `data.train`, empty for the top. Other
    tools' names are then known too. Without it the word is a kind, a column or any other name.
    """
    if len(word) > LONGEST:
        return _listed(known)
    meant = _kind(word, known) if place is None else _key(word.lower().replace("-", "_"), known, place)
    return meant or _near(word, known, place) or _listed(known)


def _kind(word: str, known: Collection[str]) -> str:
    from tunewright.spec.words import BROUGHT, KINDS

    for kind, names, besides in KINDS:
        if kind in known and word in names.split():
            return f"here it is called `{kind}`{besides and ', '}{besides}"
    for kind, names, how in BROUGHT:
        if kind in known and word in names.split():
            return how
    return _as_path(word, known)


def _as_path(word: str, known: Collection[str]) -> str:
    """Where a file, a folder or a repository is written in the place of a kind."""
    ending = word.rpartition(".")[2]
    if ending in known and ending != word:
        return f"write `{{kind: {ending}, path: {word}}}`"
    if "/" not in word or "local" not in known:
        return ""
    if "hub" in known and word.count("/") == 1 and word[0] not in "./~":
        return f"write `{{kind: hub, repo: {word}}}`"
    return f"write `{{kind: local, path: {word}}}`"


def _key(word: str, known: Collection[str], place: str) -> str:
    from tunewright.spec.words import HERE, KEYS, REMOVE

    place = place.removeprefix("stages.")
    if place in SOURCES and "fraction" not in known:  # a split has words of its own
        place = "data.train"
    place = "data.format" if place == "evals.format" else place
    target = HERE.get(place, {}).get(word) or KEYS.get(word, "")
    if not target:
        named_so = word in ("type", "_target_", "class", "method", "backend") and "kind" in known
        return "here it is called `kind`" if named_so else REMOVE.get(word, "")
    if ": " in target:
        return f"here it is written `{target}`"
    for way in target.split("|"):
        group, _, field = way.replace("[]", "").rpartition(".")
        if group != place:
            return f"here it is called {_way(way)}"
        if field in known:
            return f"here it is called `{field}`"
    return ""


def _way(target: str) -> str:
    group, entry, field = target.partition("[].")
    return f"`{field}`, in the entries of `{group}`" if entry else f"`{target}`"


def _near(word: str, known: Collection[str], place: str | None) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    if place is None:
        return ""
    from tunewright.spec.words import KEYS

    near = get_close_matches(word, KEYS, n=1, cutoff=0.85)  # a misspelt word of another place
    return _key(near[0], known, place) if near else ""


def _listed(known: Collection[str]) -> str:
    shown: list[str] = []
    length = 0
    for word in sorted(known):
        length += len(word) + 2
        if shown and length > MOST_SHOWN:
            return f"known: {', '.join(shown)} and {len(known) - len(shown)} more"
        shown.append(word)
    return f"known: {', '.join(shown)}" if shown else ""
