"""Files that could stop, mislead or overfill what reads a spec: name → how its bytes are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

MIB = 1 << 20


def bomb(levels: int, width: int) -> bytes:
    """Each level holds the one before several times: a kilobyte that means a billion values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


def filled(piece: str, size: int) -> bytes:
    return (piece * (size // len(piece.encode()) + 1)).encode()[:size]


def keys(size: int) -> bytes:
    lines, length = [], 0
    while length < size:
        lines.append(f"key{len(lines)}: 1\n")
        length += len(lines[-1])
    return "".join(lines).encode()


# too much of everything: twice, above what a spec may have and just below it
PIECES = {
    "open lists": "[", "open mappings": "{", "dashes": "- ", "question marks": "? ", "colons": ": ", "anchors": "&a ",
    "anchored lines": "- &a\n", "aliases": "[*a, ", "one scalar": "x", "words": "x y ", "spaces": " ", "lines": "\n",
    "tabs": "\t", "quotes": "'", "double quotes": '"', "exclamation marks": "!", "tags": "!t ", "comments": "# x\n",
    "documents": "---\n", "ends": "...\n", "directives": "%A b\n", "entries": "a, ", "lists of lists": "- [a,\n",
    "keys on one line": "a:", "block texts": "a: |\n", "digits": "1", "backslashes": "\\", "carriage returns": "\r",
    "wide letters": "語", "merge keys": "<<: &a\n", "lists within": "[[[[[[]]]]]],", "empty mappings": "- {}\n",
    "pipes": "|", "greater": ">", "commas": ",", "percent": "%", "stars": "*",
}  # fmt: skip
CASES: dict[str, Callable[[], bytes]] = {
    "an alias bomb": lambda: bomb(10, 9),
    "a wide alias bomb": lambda: bomb(3, 90),
    "aliases of itself": lambda: b"a: &a [*a, *a]",
    "a python tag": lambda: b"a: !!python/object/apply:os.system [touch /tmp/x]",
    "a python tag on a key": lambda: b"!!python/name:os.system : 1",
    "a merge key": lambda: b"base: &b {x: 1}\nname: {<<: *b}",
    "nested lists": lambda: b"a: " + b"[" * 5000 + b"]" * 5000,
    "nested mappings": lambda: b"{a: " * 5000 + b"1" + b"}" * 5000,
    "nested blocks": lambda: b"".join(b" " * n + b"a:\n" for n in range(400)),
    "a number of a million digits": lambda: b"seed: " + b"1" * 120_000,
    "a hexadecimal number without end": lambda: b"seed: 0x" + b"f" * 120_000,
    "an octal number without end": lambda: b"seed: 0o" + b"7" * 120_000,
    "a fraction without end": lambda: b"seed: 0." + b"1" * 120_000,
    "an exponent without end": lambda: b"seed: 1e" + b"9" * 120_000,
    "sexagesimal numbers": lambda: b"seed: 1:30:00",
    "underscores": lambda: b"seed: 1" + b"_" * 120_000,
    "an open quote": lambda: b"a: 'x\n" + b"b: 1\n" * 20_000,
    "an open double quote": lambda: b'a: "x\n' + b"b: 1\n" * 20_000,
    "NUL": lambda: b"a: x\0y",
    "NUL by escape": lambda: b'name: "x\\0"',
    "a path with NUL": lambda: b'extends: "x\\0"',
    "control bytes": lambda: b"a: x\x07\x1b[31m",
    "a vertical tab": lambda: b"a: 1\x0bb: 2",
    "UTF-16": lambda: "a: 1\n".encode("utf-16"),
    "UTF-32": lambda: "a: 1\n".encode("utf-32"),
    "Latin-1": lambda: "apiVersion: x\nname: Müller\n".encode("latin-1"),
    "a lone surrogate": lambda: b"a: \xed\xa0\x80",
    "a lone surrogate by escape": lambda: b'name: "\\ud800"',
    "no character": lambda: b'name: "\\U00110000"',
    "half a character": lambda: "name: ü".encode()[:-1],
    "two documents": lambda: b"name: a\n---\nname: b\n",
    "YAML 1.1": lambda: b"%YAML 1.1\n---\nname: yes\n",
    "a version without end": lambda: b"%YAML 1." + b"1" * 100_000 + b"\n---\na: 1\n",
    "a tag directive": lambda: b"%TAG ! tag:x,2000:\n---\na: !b 1\n",
    "a list": lambda: b"- a\n",
    "nothing": lambda: b"",
    "a pickle": lambda: b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00",
    "an archive": lambda: b"PK\x03\x04" + bytes(1000),
    "many keys": lambda: keys(60_000),
    "a million keys": lambda: keys(MIB),
    "one long key": lambda: b"k" * 120_000 + b": 1",
    "many keys of a part": lambda: b"trainer:\n  kind: fake\n" + b"  " + keys(60_000).replace(b"\n", b"\n  "),
    "long keys": lambda: b"".join(b"x%055d: 1\n" % n for n in range(2_000)),
    "many wrong parts": lambda: b"evals:\n" + b"- kind: fake\n" * 4_000,
    "a kind without end": lambda: b"trainer: " + b"fake" * 30_000,
}  # fmt: skip


def cases() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every case by its name."""
    yield from CASES.items()
    for name, piece in PIECES.items():
        yield f"a mebibyte of {name}", lambda piece=piece: filled(piece, MIB)
        yield f"as many {name} as there may be", lambda piece=piece: b"a: " + filled(piece, 128 * 1024 - 3)
        yield f"from the start {name}", lambda piece=piece: filled(piece, 128 * 1024)
