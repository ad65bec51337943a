"""Rules between parts: what one needs and another offers, and what the data, the base and the licences allow.

What a part can do it says by its capabilities; a rule here names no kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from tunewright.errors import BadInput, EnvironmentFault, TunewrightError
from tunewright.parts import Backend, Cap, DataSource, Evaluator, Exporter, Facts, Finding, Options, Secret, To
from tunewright.parts.base import Head
from tunewright.parts.data_source import Row
from tunewright.resolve.licences import clash
from tunewright.resolve.resolved import Resolved
from tunewright.secrets import REFERENCE
from tunewright.spec.document import Document, Key
from tunewright.spec.problems import Problem
from tunewright.spec.suggest import did_you_mean

Heads = Mapping[DataSource, Head]


def check(resolved: Resolved, heads: Heads) -> Iterator[Problem]:
    """Everything that is wrong between the parts of a resolved spec."""
    for backend in resolved.backends():
        yield from (resolved.problem(backend, finding) for finding in backend.check(resolved.facts))
        yield from _unmet(resolved, backend)
        yield from (resolved.problem(backend, finding) for finding in _taken(backend))
    yield from _row_kinds(resolved)
    yield from _columns(resolved, heads)
    yield from _lengths(resolved)
    yield from _evidence(resolved)
    yield from _names(resolved)
    yield from _licences(resolved)
    yield from _secrets(resolved)
    yield from client_rules(resolved, resolved.facts)


def _unmet(resolved: Resolved, backend: Backend) -> Iterator[Problem]:
    by_part = {other.part: other for other in resolved.backends()}
    for need in backend.needs():
        if need.cap not in resolved.facts.offers.get(need.part, frozenset[Cap]()):
            other = by_part[need.part]
            message = f"{backend.part} `{backend.kind}` needs {need}; `{other.kind}` is not, as it stands here"
            yield resolved.problem(backend, Finding(need.code, message, suggestion=need.why))


def _taken(backend: Backend) -> Iterator[Finding]:
    """`args:` may not repeat an option, nor what we set ourselves."""
    fields = {mark.argument: name for name, info in backend.Options.model_fields.items() for mark in info.metadata
              if isinstance(mark, To)}  # fmt: skip
    for name, value in getattr(backend.options, "args", {}).items():
        if name in fields:
            message = f"`{name}` is the option `{fields[name]}`"
            yield Finding("argument-taken", message, f"args.{name}", f"set `{fields[name]}` instead", at_key=True)
        elif name in backend.fixed:
            message = f"`{name}` is always `{backend.fixed[name]}` here: the run depends on it"
            yield Finding("argument-taken", message, f"args.{name}", "remove it", at_key=True)
        elif not _finite(value):
            message = f"`{name}` has a number that is infinite or none: nothing can work with it"
            yield Finding("bad-value", message, f"args.{name}")


def _finite(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _row_kinds(resolved: Resolved) -> Iterator[Problem]:
    trainer, form = resolved.trainer, resolved.format
    if trainer.consumes != form.makes:
        message = (
            f"trainer `{trainer.kind}` learns from {trainer.consumes} rows; format `{form.kind}` makes {form.makes}"
        )
        known = [kind for kind in resolved.host.kinds("prompt_format") if _makes(resolved, kind) == trainer.consumes]
        formats = " or ".join(f"`{kind}`" for kind in known) or "none that is installed"
        suggestion = f"formats that make {trainer.consumes} rows: {formats}"
        yield resolved.problem(trainer, Finding("wrong-row-kind", message, suggestion=suggestion))


def _makes(resolved: Resolved, kind: str) -> str:
    try:
        return str(getattr(resolved.host.backend("prompt_format", kind), "makes", ""))
    except EnvironmentFault:  # a format that cannot be imported cannot be suggested
        return ""


def _columns(resolved: Resolved, heads: Heads) -> Iterator[Problem]:
    for source, head in heads.items():
        asked: list[tuple[Backend, Mapping[str, str]]] = [(resolved.format, resolved.format.columns())]
        if source in resolved.test:
            asked += [(evaluator, evaluator.columns()) for evaluator in resolved.evaluators]
        asked.append((source, {column: f"where.{column}" for column in getattr(source.options, "where", {})}))
        for backend, columns in asked:
            for column, field in sorted(columns.items()):
                if column not in head.columns:
                    message = f"`{source.name}` has no column `{column}`"
                    finding = Finding(
                        "missing-column", message, field, did_you_mean(column, head.columns),
                        at_key=field.startswith("where."),
                    )  # fmt: skip
                    yield resolved.problem(backend, finding)


def _lengths(resolved: Resolved) -> Iterator[Problem]:
    """What `max_length` cannot be: longer than the base was made for, or shorter than a row's words."""
    limit = resolved.trainer.options.max_length
    made_for = (resolved.facts.model_config or {}).get("max_position_embeddings")
    written = "max_length" in resolved.trainer.options.model_fields_set  # by default, the rows themselves decide
    if isinstance(made_for, int) and limit > made_for and written:
        message = f"rows may have {limit} tokens, the base takes {made_for}"
        finding = Finding("length-beyond-model", message, "max_length", f"set `max_length: {made_for}` or less")
        yield resolved.problem(resolved.trainer, finding)
    words, origin = max((_longest(resolved, rows) for rows in resolved.facts.rows), default=(0, ""))
    if words > limit:
        message = f"{origin} has {words} words, so at least as many tokens; {limit} are allowed"
        finding = Finding("row-too-long", message, "max_length", "raise `max_length`, or leave such rows out: `where:`")
        yield resolved.problem(resolved.trainer, finding)


def _longest(resolved: Resolved, rows: tuple[Row, ...]) -> tuple[int, str]:
    """A lower bound of the longest row's tokens, and its origin.

    Tokenizers of the known families never join two words into one token. Only the row with the most spaces is
    rendered, since `validate` has no time to render all.
    """
    columns = resolved.format.columns().keys()
    whole = [row for row in rows if columns <= row.fields.keys()]  # a lacking column is said by another rule
    if not whole:
        return 0, ""
    row = max(whole, key=lambda row: sum(str(row.fields[column]).count(" ") for column in columns))
    try:
        example = resolved.format.example(row.fields)
    except BadInput:  # an empty or broken row: said with its line when all rows are read
        return 0, ""
    words = sum(len(message["content"].split()) for message in (*example.prompt, *example.completion))
    return words, row.origin


def _evidence(resolved: Resolved) -> Iterator[Problem]:
    """Evaluations need rows, gates need scores."""
    if resolved.evaluators and not resolved.test:
        message = "the evaluations have no rows to ask: `data.test` is empty"
        yield Problem("no-test-data", message, resolved.document.at(("evals",)), "add `data.test:`")
    metrics = resolved.facts.metrics
    for gate in resolved.gates:
        for metric in sorted(gate.metrics() - metrics):
            finding = Finding(
                "unknown-metric", f"no evaluation makes `{metric}`", "metric", did_you_mean(metric, metrics)
            )
            yield resolved.problem(gate, finding)


def _names(resolved: Resolved) -> Iterator[Problem]:
    for group in (resolved.evaluators, resolved.exporters):
        seen: set[str] = set()
        for backend in cast("tuple[Evaluator | Exporter, ...]", group):
            if backend.name in seen:
                message = f"two {backend.part}s are called `{backend.name}`"
                yield resolved.problem(backend, Finding("duplicate-name", message, suggestion="give one a `name:`"))
            seen.add(backend.name)


def _licences(resolved: Resolved) -> Iterator[Problem]:
    base, given = resolved.source.license, resolved.spec.package.license
    why = clash(base, given)
    if why:
        message = f"the base is licensed {base}, {why}; the package says {given}"
        place = resolved.document.at(("package", "license"))
        yield Problem("license-clash", message, place, f"write `license: {base}`, or leave it out")


def _secrets(resolved: Resolved) -> Iterator[Problem]:
    """`${env:NAME}` outside of an option that reads it would be taken as plain text: an option silently ignored."""
    document = resolved.document
    if not any("${env:" in line for lines in document.sources.values() for line in lines):
        return
    for key, value in _texts(document.data, ()):
        if REFERENCE.search(value) and not _read_as_secret(resolved, key):
            message = f"`{key[-1]}` is taken as written: `${{env:…}}` is read in options that hold a secret"
            yield Problem("env-not-read", message, document.at(key), "write the value itself")


def _texts(value: Any, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, (*key, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*key, index))


def _read_as_secret(resolved: Resolved, key: Key) -> bool:
    for backend in resolved.backends():
        place = resolved.keys.get(id(backend))
        if place is not None and key[: len(place)] == place:
            found: Any = backend.options
            for step in key[len(place) :]:
                found = getattr(found, str(step), None) if isinstance(found, Options) else found[step]
            return isinstance(found, Secret)
    return False


def client_rules(resolved: Resolved, facts: Facts) -> Iterator[Problem]:
    """What the installed plugins' own checks find. Raises `EnvironmentFault` by a plugin's name where one breaks."""
    for name, distribution, hook in resolved.host.each("tunewright_check_spec"):
        try:
            findings = [finding for found in hook(spec=resolved.spec, facts=facts) for finding in found or ()]
        except TunewrightError:
            raise
        except Exception as error:
            raise EnvironmentFault(
                f"plugin `{name}` ({distribution}): its check of the spec broke: {type(error).__name__}: {error}",
                fix="tell its maker; `--no-plugins` leaves a plugin out",
            ) from error
        for finding in findings:
            key: Key = tuple(int(step) if step.isdigit() else step for step in finding.field.split("."))
            place = resolved.document.at(key, prefer_key=finding.at_key)
            yield Problem(finding.code, finding.message, place, finding.suggestion)


def requirements(document: Document) -> Iterator[Problem]:
    """`requires:` of the spec against what is installed."""
    from packaging.requirements import InvalidRequirement, Requirement

    from tunewright.parts.base import library_version

    for index, text in enumerate(document.data.get("requires") or ()):
        place = document.at(("requires", index))
        try:
            wanted = Requirement(text)
        except InvalidRequirement as error:
            why = str(error).splitlines()[0]
            yield Problem("bad-requirement", f"`{text}` is no requirement: {why}", place, 'as in "acme-plugin>=1.2"')
            continue
        found = library_version(wanted.name)
        if found == "absent":
            message = f"the spec requires `{wanted.name}`, which is not installed"
            yield Problem("requirement-unmet", message, place, f'install it: pip install "{text}"')
        elif not wanted.specifier.contains(found, prereleases=True):
            message = f"the spec requires `{text}`, installed is {found}"
            yield Problem("requirement-unmet", message, place, f'change it: pip install "{text}"')
