"""What can be seen of a backend without using it: its class, its options, and what importing it pulls in."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import ValidationError

from tunewright.parts import PARTS, Backend, Facts, Need, Options, SpecPath, To
from tunewright.parts.base import Cap, Finding, Unkeyed
from tunewright.parts.data_source import SourceOptions
from tunewright.parts.evaluator import EvaluatorOptions
from tunewright.parts.exporter import ExporterOptions
from tunewright.parts.gate import GateOptions
from tunewright.parts.trainer import TrainerOptions
from tunewright.testing.violations import Report

HEAVY = (
    "accelerate", "bitsandbytes", "datasets", "gguf", "huggingface_hub", "jax", "matplotlib", "mlflow", "numpy",
    "pandas", "peft", "pyarrow", "requests", "safetensors", "scipy", "sklearn", "sqlalchemy", "tensorboard",
    "tensorflow", "tokenizers", "torch", "trackio", "transformers", "trl", "vllm", "wandb",
)  # fmt: skip
"""Libraries that `validate` must not wait for: a backend imports them where it uses them."""

BASES: Mapping[str, type[Options]] = {
    "data_source": SourceOptions, "evaluator": EvaluatorOptions, "exporter": ExporterOptions, "gate": GateOptions,
    "trainer": TrainerOptions,
}  # fmt: skip
"""Parts of which the core itself reads options: theirs must subclass these."""

CAPS: Mapping[str, frozenset[Cap]] = {
    "quantizer": frozenset(
        {Cap.TRAINABLE, Cap.FULLY_TRAINABLE, Cap.TAKES_MERGES, Cap.FOUR_BIT, Cap.UNPACKS, Cap.MAKES}
    ),
    "adapter": frozenset(
        {
            Cap.ADAPTS,
            Cap.MERGES,
            Cap.BESIDE,
            Cap.BY_TOKEN,
            Cap.NEUTRAL,
            Cap.LORA,
            Cap.VLLM,
            Cap.LLAMACPP,
        }
    ),
    "engine": frozenset({Cap.SCORES, Cap.LIKELIEST}),
}
"""What a part can claim; the others claim nothing."""

UNHEARD_OF = "an_option_that_nobody_has"

READ = """
import contextlib, importlib, json, sys
path, module, name, options, heavy = json.load(sys.stdin)
sys.path[:] = path
found = importlib.import_module(module)
for step in name.split("."):
    found = getattr(found, step, None)
if isinstance(found, type):
    found.Options.model_json_schema()
    with contextlib.suppress(Exception):
        made = found(found.Options.model_validate(options))
        made.arguments(), made.offers(), list(made.needs())
        from tunewright.parts import Facts
        list(made.check(Facts()))
print(json.dumps(sorted(name for name in heavy if sys.modules.get(name) is not None)))
"""


def is_whole(backend: Any, part: str, report: Report) -> bool:
    """Whether the class can be used at all; what it lacks is noted."""
    contract = PARTS[part]
    if not (inspect.isclass(backend) and issubclass(backend, contract)):
        report.add("bad-contract", f"it is no subclass of `{contract.__name__}`: make it one")
        return False
    lacking = sorted(getattr(backend, "__abstractmethods__", ()))
    lacking += [name for name in _declared(contract) if not hasattr(backend, name)]
    for name in lacking:
        report.add("bad-contract", f"`{name}` is missing: `{contract.__name__}` says what it must do")
    return not lacking


def _declared(contract: type[Backend]) -> Iterator[str]:
    """Class attributes that a contract declares and gives no value."""
    for owner in contract.__mro__:
        for name, annotation in vars(owner).get("__annotations__", {}).items():
            if "ClassVar" in str(annotation) and name not in vars(owner):
                yield name


def check_class(backend: type[Backend], report: Report) -> None:
    """Class attributes that name what is not there, options that nobody can read about."""
    fields = backend.Options.model_fields
    default = fields["kind"].default if "kind" in fields else None
    says = f"`kind` is `{backend.kind}` and its Options' default is `{default}`: make them equal"
    report.expect(default == backend.kind, "badly-registered", says)
    base = BASES.get(backend.part, Options)
    why = f"its Options do not subclass `{base.__name__}`, whose fields the core reads"
    report.expect(issubclass(backend.Options, base), "bad-contract", why)
    for attribute, names in (("reads", backend.reads), ("vary", backend.vary)):
        for name in sorted(set(names) - set(fields)):
            report.add("bad-contract", f"`{attribute}` names `{name}`, which is no field of its Options")
    texts = not isinstance(backend.libraries, str) and all(isinstance(name, str) for name in backend.libraries)
    report.expect(texts, "bad-contract", "`libraries` is not a tuple of distributions' names")
    for name in own_fields(backend):
        why = f"the field `{name}` has no description: `Field(description=…)` is what `plugins show` prints"
        report.expect(bool(fields[name].description), "bad-contract", why)


def own_fields(backend: type[Backend]) -> list[str]:
    """Fields of its Options that are its own; those of the classes in `tunewright.parts` the core reads."""
    core = {
        name for owner in backend.Options.__mro__ if owner.__module__.startswith("tunewright.parts.")
        for name in vars(owner).get("__annotations__", {})
    }  # fmt: skip
    return [name for name in backend.Options.model_fields if name not in core]


def marks(backend: type[Backend], name: str) -> bool:
    """Whether a field is marked with the library's argument that it becomes."""
    return any(isinstance(mark, To) for mark in backend.Options.model_fields[name].metadata)


def unkeyed(backend: type[Backend], name: str) -> bool:
    """Whether a field is marked as one that changes how a run goes and never what comes of it."""
    return any(isinstance(mark, Unkeyed) for mark in backend.Options.model_fields[name].metadata)


def check_options(backend: type[Backend], given: Mapping[str, Any], report: Report) -> bool:
    """Whether the given options can be read; unknown keys must be refused, and values frozen."""
    try:
        options = backend.Options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the options"
        report.add("options-refused", f"{where}: {first['msg']}; give the check `options` that a spec could have")
        return False
    try:
        backend.Options.model_validate({**given, UNHEARD_OF: 1})
    except ValidationError:
        pass
    else:
        report.add("unknown-keys-accepted", "Options take any key: leave `extra` at `forbid`, or a typo goes unnoticed")
    for name in _open_models(backend):
        message = f"`{name}` takes any key: set `extra` to `forbid` there too"
        report.add("unknown-keys-accepted", message)
    try:
        options.kind = options.kind
    except ValidationError:
        return True
    report.add("unknown-keys-accepted", "Options can be changed after they were read: leave `frozen` at true")
    return True


def _open_models(backend: type[Backend]) -> list[str]:
    """Models within its Options that take keys which they do not know."""
    within = backend.Options.model_json_schema().get("$defs", {})
    return [name for name, schema in sorted(within.items())
            if "properties" in schema and schema.get("additionalProperties") is not False]  # fmt: skip


def check_words(made: Backend, report: Report) -> None:
    """What it says of itself to the resolver is of the types that the resolver reads."""
    offers, needs = made.offers(), list(made.needs())
    report.expect(all(isinstance(cap, Cap) for cap in offers), "bad-contract", "`offers` gives what is no `Cap`")
    foreign = sorted(cap.name for cap in offers if isinstance(cap, Cap) and cap not in CAPS.get(made.part, ()))
    says = f"`offers` names {', '.join(foreign)}, which is nothing that a {made.part} can do"
    report.expect(not foreign, "capability-lies", says)
    for need in needs:
        known = isinstance(need, Need) and need.part in PARTS and isinstance(need.cap, Cap)
        report.expect(known, "bad-contract", f"`needs` gives {need!r}, which no part can meet")
    for facts in (Facts(), Facts(model_config={"model_type": "llama"})):
        made.derive(facts)
        for finding in made.check(facts):
            named = isinstance(finding, Finding) and finding.field.partition(".")[0] in type(made.options).model_fields
            report.expect(named, "bad-contract", f"`check` gives {finding!r}, which is at no field of its Options")
    made.signature()


def check_import(backend: type[Backend], given: Mapping[str, Any], report: Report) -> None:
    """Import its module and read its options in a fresh process; nothing heavy may come along."""
    if backend.__module__ == "__main__":  # typed at a prompt: there is no module to import
        return
    told = [[path or "." for path in sys.path], backend.__module__, backend.__qualname__, dict(given), HEAVY]
    done = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(told, default=str), capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        report.add("bad-contract", f"`{backend.__module__}` cannot be imported in a fresh process: {said}")
        return
    found = cast("list[str]", json.loads(done.stdout.splitlines()[-1]))
    if found:
        names = ", ".join(found)
        message = f"importing `{backend.__module__}` imports {names}: import them inside the methods that use them"
        report.add("heavy-import", message)


def as_written(options: Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
    """Options as a spec would hold them: paths as text, the kind among them."""
    return {"kind": kind, **{name: _plain(value) for name, value in (options or {}).items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, SpecPath):
        return str(value.path)
    if hasattr(value, "__fspath__"):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
