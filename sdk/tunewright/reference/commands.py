"""docs/reference/cli.md, from the signatures of the command line's own functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from tunewright.cli import main
from tunewright.reference.text import item, page, prose

ABOUT = "`tunewright COMMAND --help` shows the same."


class _Parameter(NamedTuple):
    """An argument or a flag: its type, what typer is told of it, and its default."""

    name: str
    type: Any
    info: Any
    default: Any


def cli_page() -> str:
    """Each command with its arguments and flags."""
    rules = " ".join((inspect.getdoc(main) or "").split("\n\n")[1:])
    return page("The command line", f"{' '.join(rules.split())} {ABOUT}", _sections())


def _sections() -> Iterator[str]:
    for path, function in sorted(_commands("tunewright", main.app)):
        parameters = list(_parameters(function))
        arguments = [_metavar(found) for found in parameters if isinstance(found.info, ArgumentInfo)]
        yield f"## `{' '.join([path, *arguments])}`"
        yield prose(function.__doc__ or "")
        if parameters:
            yield "\n".join(_item(found) for found in parameters)


def _commands(path: str, app: typer.Typer) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in app.registered_commands:
        if command.callback is not None and not command.hidden:
            name = command.name or command.callback.__name__.replace("_", "-")
            yield f"{path} {name}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(f"{path} {group.name}", group.typer_instance)


def _parameters(function: Callable[..., Any]) -> Iterator[_Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if get_args(hints[name])[1:] and hasattr(hints[name], "__metadata__"):  # not typer's own context
            kind, info = get_args(hints[name])[:2]
            yield _Parameter(name, kind, info, parameter.default)


def _item(found: _Parameter) -> str:
    about = found.info.help or ""
    if isinstance(found.info, ArgumentInfo):
        return item(f"`{_metavar(found)}`: {about}")
    # the first name stands where typer has a default, unless it is said by `Annotated`
    written = [name for name in (found.info.default, *(found.info.param_decls or ())) if isinstance(name, str)]
    names = ", ".join(written or [f"--{found.name.replace('_', '-')}"])
    if found.type is bool:
        return item(f"`{names}`: {about}")
    if get_origin(found.type) is list:
        about += " As often as needed."
    elif found.default is not None:
        about += f" By default `{found.default}`."
    return item(f"`{names} {_metavar(found)}`: {about}")


def _metavar(found: _Parameter) -> str:
    if found.info.metavar:
        return str(found.info.metavar)
    kinds = [kind for kind in get_args(found.type) or (found.type,) if kind is not type(None)]
    if get_origin(found.type) is Literal:
        return "|".join(map(str, kinds))
    return {Path: "PATH", int: "N", float: "NUMBER"}.get(kinds[0], "TEXT")
