"""A spec's parts become backends, one by one; then the rules between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from tunewright.errors import BadInput, EnvironmentFault
from tunewright.host import Host
from tunewright.parts import Backend, Cap, DataSource, Engine, Exporter, Facts, PromptFormat, SpecPath
from tunewright.parts.base import BadOption, Head, PathText
from tunewright.parts.data_source import Row, SourceOptions
from tunewright.parts.evaluator import Evaluator, serves
from tunewright.parts.gate import AGREEMENT, KL, baseline_score, form_score
from tunewright.resolve import rules
from tunewright.resolve.guessed import likely_at
from tunewright.resolve.resolved import Baseline, Claims, Resolved, Training, bare
from tunewright.resolve.structure import structure
from tunewright.spec.compose import lines_of, short
from tunewright.spec.document import Document, Key, parse_value
from tunewright.spec.load import OVERRIDE, load
from tunewright.spec.model import Part, Place, Spec, Split, part_key, places
from tunewright.spec.problems import Problem, SpecError
from tunewright.spec.suggest import did_you_mean
from tunewright.spec.validate import check_spec, problems_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def resolve(path: Path, host: Host, overrides: Iterable[str] = ()) -> Resolved:
    """Load, check and resolve a spec. Raises `SpecError` with every problem that shows before anything is fetched."""
    document = load(path, overrides)
    made = partial(_instance, document=document, host=host)
    spec, problems = check_spec(document, partial(likely_at, document=document, host=host, made=made))
    if spec is not None:
        problems += structure(spec, document)
    found: dict[Key, Backend] = {}
    broken: list[Problem] = []
    faults: list[BadInput | EnvironmentFault] = []
    for place in places(document):
        try:
            found[place.key] = made(place)
        except SpecError as error:
            problems += error.problems
        except (BadInput, EnvironmentFault) as error:
            faults.append(error)
            broken.append(Problem("bad-plugin", error.message, document.at(place.key), error.fix))
    if len(faults) == 1 and not problems and isinstance(faults[0], EnvironmentFault):
        raise faults[0]  # the spec is fine, this machine is not
    if spec is None or problems or broken:
        raise SpecError([*problems, *broken], document.sources)
    resolved = _assemble(spec, document, host, found)
    heads, problems = _heads(resolved)
    resolved = resolved._replace(heads=heads, facts=_facts(resolved, heads))
    unmet = rules.requirements(document) if spec.requires else ()
    resolved.refuse((*problems, *unmet, *rules.check(resolved)))
    return resolved


def once_pinned(resolved: Resolved) -> Resolved:
    """The same, where the pin has told what the base is: a source such as a hub's knows its config only then.

    Raises `SpecError` with what is wrong with that base.
    """
    facts = resolved.facts
    config = resolved.source.config() if facts.model_config is None else None
    if config is None:
        return resolved
    resolved = resolved._replace(facts=replace(facts, model_config=config, saves=_saves(resolved, config)))
    resolved.refuse(rules.check(resolved))
    return resolved


def _instance(place: Place, document: Document, host: Host) -> Backend:
    kind_key = part_key(document, place.key, "kind")
    if f"{place.contract}/{place.part.kind}" not in host.table:
        raise SpecError([_unknown_kind(place, document, host, kind_key)], document.sources)
    backend = host.backend(place.contract, place.part.kind)
    return backend(_options(backend, place, document))


def _unknown_kind(place: Place, document: Document, host: Host, key: Key) -> Problem:
    kinds = host.kinds(place.contract)
    broken = [fault for fault in host.faults if place.part.kind in fault.why or place.part.kind == fault.plugin]
    # what a plugin would have brought is not known where it could not even be loaded
    broken = broken or [fault for fault in host.faults if fault.plugin not in host.plugins]
    message = f"`{short(place.part.kind)}` is not an installed {place.contract.replace('_', ' ')}"
    if broken:
        message += f" (plugin `{broken[0].plugin}` of {broken[0].distribution} could not be loaded: {broken[0].why})"
    return Problem("unknown-kind", message, document.at(key), did_you_mean(place.part.kind, kinds))


def _options(backend: type[Backend], place: Place, document: Document) -> Any:
    model = backend.Options
    try:
        return model.model_validate(_located(place.part.raw, model, document, place.key))
    except ValidationError as error:
        owner = f"{place.contract.replace('_', ' ')} `{place.part.kind}`"
        raise SpecError(problems_of(error, model, document, place.key, owner), document.sources) from error


def _located(raw: Mapping[str, Any], model: type[BaseModel], document: Document, key: Key) -> dict[str, Any]:
    """What was written for a model, each path in it with the folder of the file that wrote it; without what an override
    takes out."""
    known = model.model_fields
    kept = {
        name: value
        for name, value in raw.items()
        if not (value is None and name in known and _taken_out(known[name], document, (*key, name)))
    }
    return {
        name: _with_folder(value, set(_types(known[name].annotation)), document, (*key, name))
        if name in known
        else value
        for name, value in kept.items()
    }


def _taken_out(field: FieldInfo, document: Document, key: Key) -> bool:
    """Whether `--set KEY=null` takes a key out of the files that it overrides: where null is no value of its own."""
    place = document.keys.get(key)
    if place is None or not place.file.startswith(OVERRIDE) or document.values[key] == place:  # nothing behind the `=`
        return False
    return NoneType not in _types(field.annotation) or field.default is None


def _with_folder(value: Any, types: Collection[Any], document: Document, key: Key) -> Any:
    if isinstance(value, str) and SpecPath in types:
        return PathText(value, document.folder(key))
    if isinstance(value, list):
        return [_with_folder(one, types, document, (*key, place)) for place, one in enumerate(value)]
    inner = [of for of in types if isinstance(of, type) and issubclass(of, BaseModel)]
    return _located(value, inner[0], document, key) if isinstance(value, dict) and len(inner) == 1 else value


def _types(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of: a list's entries, a union's branches."""
    yield annotation
    for inner in get_args(annotation):
        if isinstance(inner, Hashable):  # marks of a field need not be
            yield from _types(inner)


def _assemble(spec: Spec, document: Document, host: Host, found: Mapping[Key, Backend]) -> Resolved:
    def one(*key: str) -> Any:
        return found[key]

    def several(*prefix: str | int) -> tuple[Any, ...]:
        return _several(found, *prefix)

    loader = one("model", "loader")
    exporters = several("exports")
    if not any(exporter.kind == "adapter" for exporter in exporters):
        # the trained form is always exported
        exporters = (cast(Exporter, bare(host, "exporter", "adapter")), *exporters)
    engine = cast(Engine, bare(host, "engine", loader.engine))

    def opens(exporter: Exporter) -> Engine:
        """The engine that the spec gives to an export, else the one that opens such files, else the loader's."""
        given = next((found.get((*key, "engine")) for key, part in found.items() if part is exporter), None)
        own = bare(host, "engine", exporter.engine) if exporter.engine else engine
        return cast(Engine, own if given is None else given)

    form, evaluators = one("data", "format"), several("evals")
    split = spec.data.test if isinstance(spec.data.test, Split) else None
    trainings = _alike(_trainings(spec, found))
    rows = several("data", "train" if split else "test")
    test = Claims(form, rows, split, (split and _learning(trainings, rows)) or (form,))
    asked, asked_by = {}, {}
    for place, evaluator in enumerate(evaluators):
        own = several("evals", place, "test")
        asks = cast(PromptFormat, found.get(("evals", place, "format"), form))
        # what brings questions of its own is asked no rows, and is as new as ever when the test rows change
        rows = test._replace(format=asks) if evaluator.consumes and not own else Claims(asks, own, None, (asks,))
        asked[evaluator.name] = rows
        asked_by[evaluator.name] = cast(Engine, found.get(("evals", place, "engine"), engine))
    return Resolved(
        spec=spec,
        document=document,
        host=host,
        source=one("model", "source"),
        loader=loader,
        engine=engine,
        quantizer=one("quantization"),
        adapter=one("adapter"),
        format=form,
        trainings=trainings,
        test=test,
        evaluators=evaluators,
        asked=asked,
        asked_by=asked_by,
        baselines=tuple(_baselines(spec, found, test, evaluators, asked)),
        trackers=several("trackers"),
        gates=several("gates"),
        exporters=exporters,
        opened_by={exporter.name: opens(exporter) for exporter in exporters},
        target=cast("Exporter | None", found.get(("package", "target"))),
        keys={id(backend): key for key, backend in found.items()},
    )


def _baselines(
    spec: Spec, found: Mapping[Key, Any], test: Claims, evaluators: Iterable[Evaluator], asked: Mapping[str, Claims]
) -> Iterator[Baseline]:
    """Examples go before questions of the spec's own test rows alone: they are of the training's kind.

    An engine answers what it is able to.
    """
    engines = {key[1]: part for key, part in found.items() if key[0] == "baselines"}
    every = tuple(evaluators)
    for place, one in enumerate(spec.baselines):
        if isinstance(one, str):
            continue  # the base, which always is there
        engine, shots = engines.get(place), one.few_shot or 0
        why = {each.name: _unanswered(each, engine, shots, asked[each.name].sources == test.sources) for each in every}
        able = tuple(each for each in every if not why[each.name])
        yield Baseline(one.called, shots, engine, able, {name: said for name, said in why.items() if said}, place)


def _unanswered(evaluator: Evaluator, engine: Engine | None, few_shot: int, shared: bool) -> str:
    """Why a baseline does not answer an evaluation, which asks the rows of `data.test` where they are `shared`."""
    if engine is not None and not serves(engine, evaluator):
        return f"engine `{engine.kind}` cannot serve it"
    if few_shot and not evaluator.consumes:
        return "it has questions of its own, before which no training row stands"
    return "it asks rows of its own, before which no training row stands" if few_shot and not shared else ""


def _several(found: Mapping[Key, Any], *prefix: str | int) -> tuple[Any, ...]:
    return tuple(backend for key, backend in found.items() if key[:-1] == prefix and isinstance(key[-1], int))


def _alike(trainings: Iterable[Training]) -> tuple[Training, ...]:
    """Each with the formats by which a split parts its rows."""
    every = tuple(trainings)
    return tuple(
        one._replace(parted_by=_learning(every, one.train))
        if one.test is not None or isinstance(one.validation, Split)
        else one
        for one in every
    )


def _learning(trainings: Iterable[Training], sources: tuple[DataSource, ...]) -> tuple[PromptFormat, ...]:
    """The formats by which these sources are learnt."""
    return tuple(dict.fromkeys(one.format for one in trainings if one.train == sources))


def _trainings(spec: Spec, found: Mapping[Key, Any]) -> Iterator[Training]:
    """The only training, or one a stage; a stage without data of its own learns the spec's."""
    form, train = found["data", "format"], _several(found, "data", "train")
    validation = spec.data.validation
    held = validation if isinstance(validation, Split) else _several(found, "data", "validation")
    test = spec.data.test if isinstance(spec.data.test, Split) else None
    if spec.trainer is not None:
        yield Training("", found["trainer",], form, train, held, test, "continue", (form,))
    for place, stage in enumerate(spec.stages):
        trainer = found["stages", place, "trainer"]
        if stage.data is None:
            yield Training(stage.name, trainer, form, train, held, test, stage.adapter, (form,))
            continue
        way: Key = ("stages", place, "data")
        own = stage.data.validation
        looked_at = own if isinstance(own, Split) else _several(found, *way, "validation")
        makes = found.get((*way, "format"), form)
        yield Training(
            name=stage.name,
            trainer=trainer,
            format=makes,
            train=_several(found, *way, "train") or train,
            validation=looked_at if looked_at or stage.data.train else held,
            test=None if stage.data.train else test,
            adapter=stage.adapter,
            parted_by=(makes,),
        )


def part_of(text: str, option: str, part: str, host: Host) -> Any:
    """A part as an option of the command line gives it: its kind, or `{kind: NAME, …}` in YAML.

    Raises `SpecError`, whose problems stand in the file `<option> <text>`.
    """
    file = f"{option} {text}"
    # read behind as many spaces as the option is long, so that columns are those of what was typed
    document, value = parse_value(f"{' ' * (len(option) + 1)}{text}", file, Path.cwd())
    document.sources[file] = lines_of(file)
    try:
        found = Part.read(value)
    except PydanticCustomError:
        message = f"`{option}` takes a kind, or `{{kind: NAME, …}}`"
        document.problems.append(Problem("wrong-type", message, document.at(())))
    if document.problems:
        raise SpecError(document.problems, document.sources)
    return _instance(Place(part, (), found), document, host)


def _heads(resolved: Resolved) -> tuple[dict[DataSource, Head], list[Problem]]:
    heads, problems = {}, []
    for source in resolved.data_sources():
        try:
            heads[source] = source.head()
        except BadOption as error:
            problems.append(resolved.problem(source, error.finding))
    return heads, problems


class _Known(NamedTuple):
    """Of a score: the one to compare by in its place, where it is biased, and what it can be at most."""

    instead: str | None = None
    largest: float | None = None


def _scores(resolved: Resolved) -> dict[str, _Known]:
    """Every score that gates may ask for."""

    def named(evaluators: Iterable[Evaluator], called: Callable[[str], str] = str) -> dict[str, _Known]:
        return {
            called(f"{one.name}.{metric}"): _Known(
                called(f"{one.name}.{biased[metric]}") if metric in biased else None, largest.get(metric)
            )
            for one in evaluators
            for biased, largest in [(one.biased(), one.largest())]
            for metric in one.summaries()
        }

    made = named(resolved.evaluators)
    for exporter in resolved.exporters:
        engines = (resolved.engine, resolved.opened_by[exporter.name])
        able = [one for one in resolved.evaluators if all(serves(engine, one) for engine in engines)]
        made[form_score(exporter.name, AGREEMENT)] = _Known(largest=1.0)
        if all(Cap.LIKELIEST in engine.offers() for engine in engines):
            made[form_score(exporter.name, KL)] = _Known()
        made |= named(able, partial(form_score, exporter.name))
    for baseline in resolved.baselines:
        made |= named(baseline.asked, partial(baseline_score, baseline.name))
    return made


def _facts(resolved: Resolved, heads: Mapping[DataSource, Head]) -> Facts:
    made = _scores(resolved)
    config = None
    with contextlib.suppress(BadOption):  # its own check says so
        config = resolved.source.config()
    return Facts(
        model_config=config,
        train=tuple(heads.get(source, Head(())) for source in rules.learnt(resolved)),
        test=tuple(heads.get(source, Head(())) for source in resolved.test.sources),
        rows=tuple(_first_rows(source, heads.get(source, Head(()))) for source in rules.learnt(resolved)),
        metrics=frozenset(made),
        biased={name: known.instead for name, known in made.items() if known.instead is not None},
        largest={name: known.largest for name, known in made.items() if known.largest is not None},
        evaluations=frozenset(evaluator.name for evaluator in resolved.evaluators),
        dtype=resolved.spec.model.dtype,
        saves=_saves(resolved, config),
        offers={backend.part: backend.offers() for backend in reversed(list(resolved.backends()))},  # the first counts
    )


def _saves(resolved: Resolved, config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    try:
        return resolved.adapter.saves(Facts(model_config=config))
    except BadOption:  # its own check says so
        return {}


def _first_rows(source: DataSource, head: Head) -> tuple[Row, ...]:
    """The head's rows that `where` keeps. A head has no line numbers, so the first row is called row 1."""
    options: SourceOptions = source.options
    origins = (f"{source.name}: row {number}" for number in range(1, len(head.rows) + 1))
    named = zip(origins, head.rows, strict=True)
    kept = tuple(Row(origin, origin, fields) for origin, fields in named if options.keeps(fields))
    return kept[: options.limit]
