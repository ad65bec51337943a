"""What a class or module says of itself in its source: signatures, fields, comments and docstrings, as written."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

WIDTH = 92
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Method(NamedTuple):
    """A method's name, its signature as in the source, its docstring, and its decorators' names."""

    name: str
    signature: str
    doc: str
    decorators: frozenset[str]


class Value(NamedTuple):
    """A field, a class attribute, a member of an enumeration or an alias, with the comment or docstring beside it."""

    text: str
    doc: str


def methods(thing: Any) -> Iterator[Method]:
    """Every public function of a class or module, in the order of the source."""
    source = textwrap.dedent(inspect.getsource(thing))
    for node in _body(thing):
        if isinstance(node, Function) and not node.name.startswith("_"):
            marks = frozenset(ast.unparse(mark) for mark in node.decorator_list)
            yield Method(node.name, _signature(source, node), ast.get_docstring(node) or "", marks)


def values(thing: Any) -> Iterator[Value]:
    """Every public field of a class, or public name that a module gives a value."""
    source = textwrap.dedent(inspect.getsource(thing))
    body = _body(thing)
    for place, node in enumerate(body):
        if isinstance(node, ast.AnnAssign | ast.Assign) and not _name(node).startswith("_"):
            after = body[place + 1] if place + 1 < len(body) else None
            yield Value(_line(ast.get_source_segment(source, node) or ""), _comment(source, node) or _text(after))


def classes(module: ModuleType) -> list[type]:
    """The public classes that a module itself defines, in the order of the source."""
    found = [thing for name, thing in vars(module).items() if inspect.isclass(thing) and not name.startswith("_")]
    own = [thing for thing in found if thing.__module__ == module.__name__]
    return sorted(own, key=lambda thing: inspect.getsourcelines(thing)[1])


def _body(thing: Any) -> list[ast.stmt]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    first = tree.body[0]
    return first.body if inspect.isclass(thing) and isinstance(first, ast.ClassDef) else tree.body


def _name(node: ast.AnnAssign | ast.Assign) -> str:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return target.id if isinstance(target, ast.Name) else "_"


def _comment(source: str, node: ast.stmt) -> str:
    line = source.splitlines()[(node.end_lineno or node.lineno) - 1]
    # offsets count bytes
    rest = line.encode()[node.end_col_offset or 0 :].decode().strip()
    return rest.removeprefix("#").strip() if rest.startswith("#") and "type:" not in rest else ""


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""


def _line(written: str) -> str:
    """A piece of source on one line, without the comments and trailing commas of its layout."""
    line = " ".join(re.sub(r"\s+#.*$", "", written, flags=re.MULTILINE).split())
    return re.sub(r",? ([)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", line))


def _signature(source: str, node: Function) -> str:
    lines, body = source.splitlines()[node.lineno - 1 :], node.body[0]
    above = body.lineno - node.lineno
    head = _line("\n".join([*lines[:above], *([lines[0][: body.col_offset]] if not above else [])]))
    mark = "@property\n" if any(ast.unparse(found) == "property" for found in node.decorator_list) else ""
    if len(head) + 4 > WIDTH:
        name, _, rest = head.partition("(")
        arguments, _, returns = rest.rpartition(")")
        inner = "".join(f"    {piece},\n" for piece in _pieces(arguments))
        head = f"{name}(\n{inner}){returns}"
    return f"{mark}{head} ..."


def _pieces(arguments: str) -> list[str]:
    """The arguments one by one: split at the commas that no bracket encloses."""
    pieces, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces]
