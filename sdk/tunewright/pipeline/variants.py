"""What a search tries of an export: the variants that its exporter knows, less what the spec has decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from tunewright.errors import BadInput, EnvironmentFault
from tunewright.parts import Exporter, Facts
from tunewright.resolve import Resolved
from tunewright.spec.dump import flow
from tunewright.spec.suggest import did_you_mean

MOST = 6
"""Variants that are tried of one export: each may take as long as the export itself, and is asked all that it was."""
OPTION = "--search-export"


def refuse_unknown(resolved: Resolved, names: Sequence[str]) -> None:
    """Raise `BadInput` by a name that no export of the spec has."""
    known = [exporter.name for exporter in resolved.exporters]
    for name in names:
        if name not in known:
            raise BadInput(f"`{OPTION} {name}`: the spec has no export `{name}`", fix=did_you_mean(name, known))


def searched(resolved: Resolved, names: Sequence[str]) -> dict[str, tuple[Exporter, ...]]:
    """The variants of each named export, in the order in which they are tried.

    Raises `BadInput` by the name of one that has none, or whose every varied option the spec itself writes.
    """
    refuse_unknown(resolved, names)
    exporters = {exporter.name: exporter for exporter in resolved.exporters}
    found = {name: variants_of(exporters[name], resolved.facts) for name in names}
    for name, variants in found.items():
        if not variants:
            raise _nothing_to_try(resolved, exporters[name])
    return found


def variants_of(exporter: Exporter, facts: Facts) -> tuple[Exporter, ...]:
    """At most `MOST` exporters that differ from this one, and from each other, in options that the spec leaves open.

    Raises `EnvironmentFault` where the exporter offers options that it does not take.
    """
    backend, own = type(exporter), exporter.options
    written = {name: getattr(own, name) for name in own.model_fields_set}
    tried, found = [exporter.settings()], list[Exporter]()
    for changes in exporter.variants(facts):
        variant = backend(_read(backend, {**changes, **written}))
        if variant.settings() not in tried and not any(variant.check(facts)):
            tried.append(variant.settings())
            found.append(variant)
    return tuple(found[:MOST])


def _read(backend: type[Exporter], options: Mapping[str, Any]) -> Any:
    try:
        return backend.Options.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise EnvironmentFault(
            f"exporter `{backend.kind}` offers a variant that it does not take: {where}: {first['msg']}",
            fix=f"tell its maker; without `{OPTION}` the run goes on as the spec says",
        ) from error


def line_of(exporter: Exporter) -> str:
    """An export as a spec would write it, in one line: `{kind: gptq, calibration_rows: 128}`."""
    return flow(exporter.options.model_dump(mode="json", include={"kind", *exporter.options.model_fields_set}))


def _nothing_to_try(resolved: Resolved, exporter: Exporter) -> BadInput:
    asked = f"`{OPTION} {exporter.name}`"
    varied = {name for changes in exporter.variants(resolved.facts) for name in changes}
    fixed = sorted(varied & exporter.options.model_fields_set)
    if fixed:
        message = f"{asked}: nothing is left to try, since the spec itself writes {', '.join(fixed)}"
        return BadInput(message, fix="leave out those that may be varied")
    if varied:
        return BadInput(f"{asked}: no variant of `{exporter.kind}` fits this base", fix="write its options yourself")
    others = [one.name for one in resolved.exporters if variants_of(one, resolved.facts)]
    kinds = [kind for kind in resolved.host.kinds("exporter") if _varies(resolved, kind)]
    fix = f"search {_either(others)}" if others else f"exporters that have: {', '.join(kinds) or 'none is installed'}"
    return BadInput(f"{asked}: exporter `{exporter.kind}` has no variants to try", fix=fix)


def _varies(resolved: Resolved, kind: str) -> bool:
    try:
        return cast(Any, resolved.host.backend("exporter", kind)).variants is not Exporter.variants
    except EnvironmentFault:  # an exporter that cannot be imported cannot be suggested
        return False


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)
