"""Rules between parts: what one needs and another offers, and what the data, the base and the licences allow.

What a part can do it says by its capabilities; a rule here names no kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel

from tunewright.errors import BadInput, EnvironmentFault, TunewrightError
from tunewright.parts import (
    AdapterMethod,
    Backend,
    Cap,
    DataSource,
    Engine,
    Evaluator,
    Exporter,
    Facts,
    Finding,
    Need,
    PromptFormat,
    Quantizer,
    Secret,
    To,
)
from tunewright.parts.base import Head
from tunewright.parts.data_source import Row, weights_at_odds
from tunewright.parts.prompt_format import texts
from tunewright.resolve.guessed import guesses, written
from tunewright.resolve.licences import clash
from tunewright.resolve.resolved import Resolved, Training
from tunewright.secrets import REFERENCE
from tunewright.spec.document import Document, Key
from tunewright.spec.model import BASE, Split
from tunewright.spec.problems import Problem
from tunewright.spec.suggest import did_you_mean


def check(resolved: Resolved) -> Iterator[Problem]:
    """Everything that is wrong between the parts of a resolved spec."""
    for backend in resolved.backends():
        yield from (resolved.problem(backend, finding) for finding in backend.check(resolved.facts_for(backend)))
        yield from _unmet(resolved, backend)
        yield from (resolved.problem(backend, finding) for finding in _taken(backend))
    yield from _taken_up(resolved)
    yield from _merges(resolved)
    yield from _weights(resolved)
    yield from _row_kinds(resolved)
    yield from _columns(resolved)
    yield from _lengths(resolved)
    yield from _evidence(resolved)
    yield from _names(resolved)
    yield from _baselines(resolved)
    yield from _opened_by_another(resolved)
    yield from _served_unmeasured(resolved)
    yield from _licences(resolved)
    yield from _secrets(resolved)
    yield from client_rules(resolved, resolved.facts)


def _unmet(resolved: Resolved, backend: Backend) -> Iterator[Problem]:
    for need in backend.needs():
        other, key = resolved.met_by(backend, need.part), resolved.key(backend, "kind")
        yield from _lacks(resolved, f"{backend.part} `{backend.kind}`", need, other, key)
    if isinstance(backend, Evaluator):
        engine = resolved.asked_by[backend.name]
        yield from _cannot_attach(resolved, backend, engine)
        yield from (resolved.problem(engine, finding) for finding in engine.comparing())
    if isinstance(backend, Exporter) and backend.attaches and backend is not resolved.target:
        engine = resolved.opened_by[backend.name]
        if id(engine) in resolved.keys:  # its own has what the exporter itself `needs`
            yield from _cannot_attach(resolved, backend, engine)


def _cannot_attach(resolved: Resolved, asker: Backend, engine: Engine) -> Iterator[Problem]:
    """Where an evaluation's or an export's engine puts what was trained on the base: what it lacks for that."""
    given = id(engine) in resolved.keys
    key = resolved.key(engine, "kind") if given else resolved.key(asker, "engine")
    found = engine.misread(cast(Quantizer, resolved.met_by(asker, Quantizer.part)))
    if found:
        yield Problem(found.code, found.message, resolved.document.at(key), found.suggestion)
    for need in engine.attaching():
        if found and need.part == Quantizer.part:
            continue
        who, other = f"engine `{engine.kind}`", resolved.met_by(asker, need.part)
        yield from _lacks(resolved, who, need, other, key)
        if isinstance(asker, Exporter) and isinstance(other, AdapterMethod):
            offers = other.offers()
            if need.cap in offers - asker.leaves(offers, resolved.facts):
                message = f"{who} needs {need}; what `{asker.kind}` writes is not, as it stands here"
                yield Problem(need.code, message, resolved.document.at(key), need.why)


def _opened_by_another(resolved: Resolved) -> Iterator[Problem]:
    """Files of a format of their own are opened by the engine that reads it, an export by one that reads what the run
    writes, and a target opens nothing."""
    if resolved.target is not None and getattr(resolved.target.options, "engine", None) is not None:
        message = "a target is looked at, and never opened: `engine` does nothing here"
        place = resolved.document.at(("package", "target", "engine"))
        yield Problem("argument-unused", message, place, "give it to an entry of `exports`")
    for exporter in resolved.exporters:
        engine = resolved.opened_by[exporter.name]
        if exporter.engine and engine.kind != exporter.engine:
            message = (
                f"what `{exporter.kind}` writes is opened by engine `{exporter.engine}`, and not by `{engine.kind}`"
            )
            place = resolved.document.at((*resolved.key(exporter, "engine"), "kind"))
            yield Problem("target-cannot-load", message, place, "leave `engine` out")
        elif id(engine) in resolved.keys:
            findings = engine.certifying(exporter.packed(resolved.facts))
            yield from (resolved.problem(engine, finding) for finding in findings)


def _served_unmeasured(resolved: Resolved) -> Iterator[Problem]:
    """A target that puts the adapter on the base's files serves another model than a packed base was trained to be:
    only an export of its kind is measured as it is served."""
    target, quantizer = resolved.target, resolved.quantizer
    if target is None or not target.on_stored or quantizer.as_stored():
        return
    if any(exporter.kind == target.kind for exporter in resolved.exporters):
        return
    message = (
        f"`{target.kind}` puts the adapter on the base as it lies in its files, and not in `{quantizer.kind}`, in "
        "which it is measured: nothing would be known of what is served"
    )
    fix = f"add `exports: [{target.kind}]`, which is measured as it is served; or export `merged` in place of `target`"
    yield resolved.problem(target, Finding("target-cannot-load", message, suggestion=fix))


def _lacks(resolved: Resolved, who: str, need: Need, other: Backend, key: Key) -> Iterator[Problem]:
    if need.cap not in other.offers():
        message = f"{who} needs {need}; `{other.kind}` is not, as it stands here"
        yield Problem(need.code, message, resolved.document.at(key), need.why)


def _taken_up(resolved: Resolved) -> Iterator[Problem]:
    """What another run saved must be there, and what is said of it must be of something."""
    if "parent" in resolved.adapter.takes_other_quantization() and "parent" not in resolved.adapter.takes_up():
        message = "`other_quantization` is said of a parent, and there is none"
        found = Finding("argument-unused", message, "other_quantization", "remove it", at_key=True)
        yield resolved.problem(resolved.adapter, found)
    for backend in (resolved.adapter, *resolved.exporters):
        for field, path in backend.takes_up().items():
            if not path.path.is_dir():
                yield resolved.problem(backend, Finding("file-missing", f"there is no folder `{path.written}`", field))


def _merges(resolved: Resolved) -> Iterator[Problem]:
    """A stage that merges the one before needs an adapter that can be merged, and a base that takes it."""
    for place, training in enumerate(resolved.trainings):
        if training.adapter == "merge":
            key: Key = ("stages", place, "adapter")
            who = f"stage `{training.name}`"
            for need in (
                Need("adapter", Cap.MERGES, "cannot-merge", "write `adapter: continue`"),
                Need("quantizer", Cap.TAKES_MERGES, "cannot-merge", "write `adapter: continue`"),
            ):
                other = resolved.met_by(training.trainer, need.part)
                yield from _lacks(resolved, who, need, other, key)


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


def _weights(resolved: Resolved) -> Iterator[Problem]:
    """Each list of sources by itself; a list that several read is said once."""
    lists = [training.train for training in resolved.trainings]
    lists += [training.validation for training in resolved.trainings if not isinstance(training.validation, Split)]
    lists += [claims.sources for claims in (resolved.test, *resolved.asked.values())]
    for sources in dict.fromkeys(lists):
        yield from (resolved.problem(source, finding) for source, finding in weights_at_odds(sources))
    yield from _copied_claims(resolved)


def _copied_claims(resolved: Resolved) -> Iterator[Problem]:
    """A row that is asked twice is no second row: every interval would come out too narrow."""
    held = [training.validation for training in resolved.trainings if not isinstance(training.validation, Split)]
    held += [claims.sources for claims in (resolved.test, *resolved.asked.values()) if claims.split is None]
    for source in dict.fromkeys(source for sources in held for source in sources):
        for name in ("epochs", "weight"):
            if name in source.options.model_fields_set:
                message = f"`{name}` repeats rows, and rows that are judged on count once each"
                yield resolved.problem(source, Finding("argument-unused", message, name, "remove it", at_key=True))


def _row_kinds(resolved: Resolved) -> Iterator[Problem]:
    for training in resolved.trainings:
        trainer, form = training.trainer, training.format
        if form.makes not in trainer.consumes:
            wanted = " or ".join(trainer.consumes)
            message = f"trainer `{trainer.kind}` learns from {wanted} rows; format `{form.kind}` makes {form.makes}"
            known = [k for k in resolved.host.kinds("prompt_format") if _makes(resolved, k) in trainer.consumes]
            formats = " or ".join(f"`{kind}`" for kind in known) or "none that is installed"
            suggestion = f"formats that make {wanted} rows: {formats}{_alike(resolved, training)}"
            yield resolved.problem(trainer, Finding("wrong-row-kind", message, suggestion=suggestion))
    for evaluator in resolved.evaluators:
        form = resolved.asked[evaluator.name].format
        if evaluator.consumes and form.makes not in evaluator.consumes:
            wanted = " or ".join(evaluator.consumes)
            message = f"evaluator `{evaluator.kind}` asks {wanted} rows; format `{form.kind}` makes {form.makes}"
            fix = "give it a `format:` and `test:` of its own"
            yield resolved.problem(evaluator, Finding("wrong-row-kind", message, suggestion=fix))


def _alike(resolved: Resolved, training: Training) -> str:
    """Of rows of another kind than the trainer learns: what their first source looks like, if it is what is wanted."""
    head = resolved.heads.get(training.train[0], Head(()))
    shapes = written(guesses(resolved.host, head, makes=training.trainer.consumes))
    return f"; `{training.train[0].name}` looks like one: {shapes}" if shapes else ""


def _makes(resolved: Resolved, kind: str) -> str:
    try:
        return str(getattr(resolved.host.backend("prompt_format", kind), "makes", ""))
    except EnvironmentFault:  # a format that cannot be imported cannot be suggested
        return ""


def _columns(resolved: Resolved) -> Iterator[Problem]:
    seen: set[tuple[int, int, str]] = set()
    for source, backend, columns in _asked(resolved):
        head = resolved.heads.get(source)
        if head is None:  # it could not be read, which is said by itself
            continue
        for column, field in sorted(columns.items()):
            if column in head.columns or (id(source), id(backend), column) in seen:
                continue
            seen.add((id(source), id(backend), column))
            at_key = field.startswith("where.")
            fix = did_you_mean(column, head.columns)
            if isinstance(backend, PromptFormat):
                shapes = written(guesses(resolved.host, head, besides=backend.kind))
                fix = f"{fix}; or {shapes}" if shapes else fix
            message = f"`{source.name}` has no column `{column}`"
            yield resolved.problem(backend, Finding("missing-column", message, field, fix, at_key=at_key))


def _asked(resolved: Resolved) -> Iterator[tuple[DataSource, Backend, Mapping[str, str]]]:
    """Which columns of which source are read by whom, with the field that names each."""
    for training in resolved.trainings:
        for source in training.sources():
            yield source, training.format, training.format.columns()
    evaluators = {evaluator.name: evaluator for evaluator in resolved.evaluators}
    for name, claims in (("", resolved.test), *resolved.asked.items()):
        for source in claims.sources:
            yield source, claims.format, claims.format.columns()
            if name:
                yield source, evaluators[name], evaluators[name].columns()
    for training in resolved.trainings:
        for source in training.train:
            for split in (training.validation, training.test):
                if isinstance(split, Split):
                    for column in filter(None, (split.group, split.time)):
                        yield source, source, {column: "kind"}
    for source in resolved.data_sources():
        yield source, source, {column: f"where.{column}" for column in getattr(source.options, "where", {})}


def _lengths(resolved: Resolved) -> Iterator[Problem]:
    """What `max_length` cannot be: longer than the base was made for, or shorter than a row's words."""
    made_for = (resolved.facts.model_config or {}).get("max_position_embeddings")
    rows = dict(zip(learnt(resolved), resolved.facts.rows, strict=True))
    for training in resolved.trainings:
        trainer = training.trainer
        limit = trainer.options.max_length
        written = "max_length" in trainer.options.model_fields_set  # by default, the rows themselves decide
        if isinstance(made_for, int) and limit > made_for and written:
            message = f"rows may have {limit} tokens, the base takes {made_for}"
            finding = Finding("length-beyond-model", message, "max_length", f"set `max_length: {made_for}` or less")
            yield resolved.problem(trainer, finding)
        if trainer.packs:
            continue  # its texts are cut into rows of that length
        found = (_longest(training.format, rows[source]) for source in training.train)
        words, origin = max(found, default=(0, ""))
        if words > limit:
            message = f"{origin} has {words} words, so at least as many tokens; {limit} are allowed"
            fix = "raise `max_length`, or leave such rows out: `where:`"
            yield resolved.problem(trainer, Finding("row-too-long", message, "max_length", fix))


def learnt(resolved: Resolved) -> list[DataSource]:
    """Every source that is trained on, each once, in the order of the trainings."""
    return list(dict.fromkeys(source for training in resolved.trainings for source in training.train))


def _longest(form: PromptFormat, rows: tuple[Row, ...]) -> tuple[int, str]:
    """A lower bound of the longest row's tokens, and its origin.

    Tokenizers of the known families never join two words into one token. Only the row with the most spaces is
    rendered, since `validate` has no time to render all.
    """
    columns = form.columns().keys()
    whole = [row for row in rows if columns <= row.fields.keys()]  # a lacking column is said by another rule
    if not whole:
        return 0, ""
    row = max(whole, key=lambda row: sum(str(row.fields[column]).count(" ") for column in columns))
    try:
        example = form.example(row.fields)
    except BadInput:  # an empty or broken row: said with its line when all rows are read
        return 0, ""
    prompt, *answers = (
        sum(len(part.split()) for part in texts(text)) for text in example if not isinstance(text, bool)
    )
    return prompt + max(answers), row.origin


def _evidence(resolved: Resolved) -> Iterator[Problem]:
    """Evaluations need rows, gates need scores."""
    rowless = [one.name for one in resolved.evaluators if one.consumes and not resolved.asked[one.name].sources]
    if rowless:
        asking = ", ".join(f"`{name}`" for name in rowless)
        message = f"there are no rows to ask in {asking}: `data.test` is empty"
        yield Problem("no-test-data", message, resolved.document.at(("evals",)), "add `data.test:`")
    for evaluator in resolved.evaluators:
        for field in () if evaluator.consumes else ("format", "test"):
            if getattr(evaluator.options, field, None):
                message = f"evaluator `{evaluator.kind}` brings questions of its own: `{field}` is not read"
                finding = Finding("argument-unused", message, field, "remove it", at_key=True)
                yield resolved.problem(evaluator, finding)
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


def _baselines(resolved: Resolved) -> Iterator[Problem]:
    """Each has a name of its own and something to answer, in words that its model reads as they are meant."""
    seen = {BASE, "tuned"}  # as the steps that ask these are called
    for baseline in resolved.baselines:
        place = resolved.document.at(("baselines", baseline.place))
        if baseline.name in seen:
            message = f"two baselines are called `{baseline.name}`"
            yield Problem("duplicate-name", message, place, "give one a `name:`")
        seen.add(baseline.name)
        if baseline.engine is not None:
            yield from (resolved.problem(baseline.engine, finding) for finding in baseline.engine.foreign())
        asked = [resolved.asked[one.name] for one in baseline.asked if baseline.few_shot]
        unseen = sorted({claims.format.makes for claims in asked if resolved.shown_before(claims) is None})
        if unseen:
            kinds = " and ".join(sorted({training.format.makes for training in resolved.trainings}))
            message = (
                f"its examples are {' and '.join(unseen)} rows, as the questions; the trainings learn {kinds} rows"
            )
            yield Problem("wrong-row-kind", message, place, "leave `few_shot` out: no training has rows to show")
        if not baseline.asked:
            message = f"baseline `{baseline.name}` can answer none of the evaluations"
            fix = (
                "examples go before questions on the rows of `data.test`: add an evaluation of these"
                if baseline.few_shot
                else "add an evaluation that its engine can serve, or remove the baseline"
            )
            yield Problem("baseline-asks-nothing", message, place, fix)


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
    """By the innermost part around it: an evaluation holds sources, a format and an engine with their own options."""
    around = {
        place: backend
        for backend in resolved.backends()
        if (place := resolved.keys.get(id(backend))) is not None and key[: len(place)] == place
    }
    if not around:
        return False
    place = max(around, key=len)
    found: Any = around[place].options
    for step in key[len(place) :]:
        found = getattr(found, str(step), None) if isinstance(found, BaseModel) else found[step]
    return isinstance(found, Secret)


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
