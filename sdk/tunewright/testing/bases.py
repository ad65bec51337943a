"""The kit for what brings a base, loads it, and stores its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.errors import TunewrightError
from tunewright.parts import Cap, Facts, Loader, ModelSource, Quantizer, SpecPath
from tunewright.parts.adapter import ModelDir
from tunewright.parts.memory import Shape
from tunewright.parts.model_source import Pin
from tunewright.parts.quantizer import stored
from tunewright.parts.whole import copy_beside
from tunewright.testing.compare import difference
from tunewright.testing.desk import Desk, unwatched
from tunewright.testing.rows import GARBAGE
from tunewright.testing.samples import ROWS, example
from tunewright.testing.state import RANDOM, TORCH
from tunewright.testing.tiny import World, tiny_world
from tunewright.testing.trial import Attempt, Exercise, Make
from tunewright.testing.violations import Report
from tunewright.testing.weights import content, tensors, weight_bytes

NEAR = 0.05
"""Share by which bytes may be told wrong: tables and other small things need not be counted."""
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class ModelSourceExercise(Exercise):
    """Pins, and two fetches of the same pin."""

    part = "model_source"

    def run(self, made: ModelSource, desk: Desk, report: Report) -> Any:
        pin, config = made.pin(), made.config()
        plain = bool(pin.values) and all(isinstance(text, str) for pair in pin.values.items() for text in pair)
        report.expect(plain, "pin-not-plain", f"the pin is {dict(pin.values)!r}: names and values must be texts")
        report.expect(made.pin() == pin, "pin-changes", "`pin` gives another pin when asked again: name one model")
        first, second = desk.give("out"), desk.give("out")
        made.fetch(pin, first)
        made.fetch(pin, second)
        where = difference(content(first), content(second))
        report.expect(not where, "fetch-differs", f"one pin was fetched twice and the bytes differ: {where}")
        self._layout(first, config, report)
        report.expect(bool(made.name), "bad-contract", "`name` is empty: the report and the card call the model by it")
        report.expect(isinstance(made.license, str), "bad-contract", "`license` is no text: leave it empty if unknown")
        if plain:
            self._refuses_another(made, pin, desk, report)
        return {"pin": dict(pin.values), "config": config, "name": made.name, "license": made.license,
                "files": content(first)}  # fmt: skip

    def _layout(self, folder: Path, config: Any, report: Report) -> None:
        names = {path.name for path in folder.iterdir()}
        for what, there in (
            ("config.json", "config.json" in names),
            ("a file of weights, *.safetensors", any(name.endswith(".safetensors") for name in names)),
            (f"a tokenizer ({', '.join(VOCABULARIES)})", bool(names & set(VOCABULARIES))),
        ):
            report.expect(there, "layout-incomplete", f"`fetch` wrote no {what}: a loader reads the model from it")
        if config is not None and "config.json" in names:
            fetched = json.loads((folder / "config.json").read_text("utf-8"))
            where = difference(dict(config), {name: fetched.get(name) for name in config})
            says = f"`config` differs from the config.json that is fetched: {where}; checks were made on another model"
            report.expect(not where, "config-differs", says)

    def _refuses_another(self, made: ModelSource, pin: Pin, desk: Desk, report: Report) -> None:
        other = Pin({name: value[::-1] if value != value[::-1] else f"{value}x" for name, value in pin.values.items()})
        try:
            made.fetch(other, desk.give("out"))
        except TunewrightError:
            return
        report.add("pin-ignored", "`fetch` brings the model under any pin: raise `Refused` where it is not what came")

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made = make()
        for name in type(made.options).model_fields:
            if isinstance(getattr(made.options, name), SpecPath):
                for what, path in _bad_models(desk):
                    for method in ("pin", "config", "fetch"):
                        call = partial(_use, make, {name: str(path)}, method, desk)
                        yield Attempt(f"{what} as `{name}`", call)


def _use(make: Make, changes: dict[str, str], method: str, desk: Desk) -> None:
    made = make(**changes)
    if method == "fetch":
        made.fetch(made.pin(), desk.give("out"))
    else:
        getattr(made, method)()


def _bad_models(desk: Desk) -> Iterator[tuple[str, Path]]:
    """Folders that hold no model, or the ruins of one."""
    folder = desk.keep("bad")
    with unwatched():
        for name, config in (("empty", None), ("garbage", GARBAGE), ("list", b"[]"), ("odd", b'{"model_type": 7}')):
            (folder / name).mkdir()
            if config is not None:
                (folder / name / "config.json").write_bytes(config)
                (folder / name / "model.safetensors").write_bytes(GARBAGE)
                (folder / name / "tokenizer.json").write_bytes(GARBAGE)
    yield "a folder that is not there", folder / "missing"
    yield "an empty folder", folder / "empty"
    yield "a folder of garbage", folder / "garbage"
    yield "a folder whose config.json is a list", folder / "list"
    yield "a folder with garbage for weights", folder / "odd"


class InWorld(Exercise):
    """An exercise that needs a model."""

    def __init__(self, world: World | None = None) -> None:
        self.given = world

    def prepare(self, desk: Desk) -> None:
        self.world = self.given or tiny_world()


class LoaderExercise(InWorld):
    """A model and a tokenizer of the world's base, loaded twice."""

    part = "loader"
    draws = (RANDOM, TORCH)

    def run(self, made: Loader, desk: Desk, report: Report) -> Any:
        device, tokenizer = made.device(), made.tokenizer(self.world.base)
        report.expect(bool(device), "bad-contract", "`device` is empty: it names a device type, as `cpu`")
        texts = [self._conversation(tokenizer, row, report) for row in ROWS]
        said = []
        for use in ("train", "infer"):
            made.seed(0)
            model = made.model(self.world.base, self.world.quantizer, self.world.dtype, use)  # type: ignore[arg-type]
            said.append(self.world.outputs(model, tokenizer))
            trained = [name for name, p in getattr(model, "named_parameters", list)() if p.requires_grad]
            says = f"a model loaded for `infer` still wants gradients ({', '.join(trained[:3])}): they cost memory"
            report.expect(use == "train" or not trained, "capability-lies", says)
        where = difference(*said)
        report.expect(not where, "load-differs", f"a model loaded for training and one for asking differ: {where}")
        return {"device": device, "texts": texts, "said": said[0], "stops": sorted(tokenizer.stops)}

    def _conversation(self, tokenizer: Any, row: Any, report: Report) -> Any:
        told = example(row)
        asked = tokenizer.render(told.prompt, generation_prompt=True)
        whole = tokenizer.render([*told.prompt, *told.completion], generation_prompt=False)
        says = "a conversation does not begin with its own question, rendered for an answer: no mask can be proven"
        report.expect(whole.startswith(asked), "tokenizer-unfaithful", says)
        back = tokenizer.decode(tokenizer.encode(whole), special=True)
        says = f"a text comes back changed from `encode` and `decode`: {difference(whole, back, 'it')}"
        report.expect(back == whole, "tokenizer-unfaithful", says)
        ends = bool(tokenizer.stops & set(tokenizer.encode(whole)))
        report.expect(ends, "tokenizer-unfaithful", "no token of `stops` ends an answer: no model would learn to")
        says = "`template` gives no text: the package carries the template"
        report.expect(isinstance(tokenizer.template, str), "bad-contract", says)
        return [whole, tokenizer.encode(whole)]

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made, world = make(), self.world
        for what, path in _bad_models(desk):
            yield Attempt(what, partial(made.model, path, world.quantizer, world.dtype, "infer"))
            yield Attempt(f"{what} for its tokenizer", partial(made.tokenizer, path))


class QuantizerExercise(InWorld):
    """The base, loaded with the quantizer: what it says, and whether gradients pass as it claims."""

    part = "quantizer"
    shows_arguments = True

    def run(self, made: Quantizer, desk: Desk, report: Report) -> Any:
        offers = made.offers()
        files: Any = {}
        if Cap.MAKES in offers:
            model, files = self._packed(made, desk, report)
        else:
            model = self.world.load(made)
        if Cap.TRAINABLE in offers and self.world.gradient is not None:
            self._carries_gradients(model, report)
        if Cap.FULLY_TRAINABLE in offers:
            packed = [name for name, p in getattr(model, "named_parameters", list)() if not p.is_floating_point()]
            still = [name for name, p in getattr(model, "named_parameters", list)() if not p.requires_grad]
            says = f"it offers FULLY_TRAINABLE, and `{(packed or still or [''])[0]}` cannot be trained: do not claim it"
            report.expect(not packed and not still, "capability-lies", says)
        self._memory(made, model, report)
        says = f"`describe` gives what JSON cannot hold: {made.describe()!r}"
        report.expect(_is_json(made.describe()), "bad-contract", says)
        held = before = tensors(model)
        said = self.world.say(model)
        report.expect(
            tensors(model) == before,
            "capability-lies",
            "asking the model changes its weights: `prepare` must keep their layout",
        )
        return {"describe": made.describe(), "said": said, "weights": sorted(held.elements()), "packed": files}

    def _packed(self, made: Quantizer, desk: Desk, report: Report) -> tuple[Any, Any]:
        """The base as the step `quantize` makes it, loaded, and what its files hold; a base that it made must pass
        through the next time."""
        world, out = self.world, desk.give("out")
        before = content(world.base)
        model = ModelDir(world.base, world.loader.outline(_config(world.base)), world.dtype)
        made.make(model, world.calibration, out)
        report.expect(
            content(world.base) == before, "writes-outside", "`make` changes the base: write into `out` alone"
        )
        says = "`make` wrote no config.json that tells how the base is packed, as `quantization_config`"
        if report.expect(bool(stored(_config(out))), "layout-incomplete", says):
            findings = [finding.message for finding in made.check(Facts(model_config=_config(out)))]
            says = f"`check` refuses the base that `make` has just made: {'; '.join(findings)}"
            written = made.options.model_fields_set - {"kind"}  # an option may say what only a packing reads
            report.expect(not findings or bool(written), "capability-lies", says)
        files = content(out)
        copy_beside(world.base, out)
        return world.loader.model(out, made, world.dtype, "train"), files

    def _memory(self, made: Quantizer, model: Any, report: Report) -> None:
        """What it tells of a base's bytes, against the base; where it tells nothing, nothing is asked."""
        shape, held = Shape.of(_config(self.world.base)), weight_bytes(model)
        told = None if shape is None else made.weight_bytes(shape, self.world.dtype)
        if told is not None and held:
            says = f"`weight_bytes` tells {told:,} of a base whose weights take {held:,} bytes: a forecast goes by it"
            report.expect(abs(told - held) <= NEAR * held, "memory-untrue", says)

    def _carries_gradients(self, model: Any, report: Report) -> None:
        gradient = self.world.gradient
        assert gradient is not None
        first = gradient(model, self.world.tokenizer)
        finite = bool(first) and all(map(math.isfinite, first)) and any(first)
        says = "it offers TRAINABLE, and no finite gradient passes through the base to an adapter: do not claim it"
        if not report.expect(finite, "capability-lies", says):
            return
        self.world.say(model)
        where = difference(first, gradient(model, self.world.tokenizer))
        says = f"the gradient is another after the model was asked: {where}; training after an evaluation goes wrong"
        report.expect(not where, "capability-lies", says)


def _config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json; empty where there is none."""
    path = folder / "config.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
