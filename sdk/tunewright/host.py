"""The plugin host: finds plugins, keeps one table of strings, imports a backend only when a spec names it.

One hook registers backends (`{"trainer/sft": "tunewright_trl.sft:Sft"}`); first-party plugins come in by the same
door as anyone's. A plugin that cannot be used is a fault with its distribution's name, never a crash: `--help` and
`plugins list` keep working, and a spec that needs it says why it is not there.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from tunewright.discovery import EntryPoint, entry_points
from tunewright.errors import BadInput, EnvironmentFault, MissingExtra
from tunewright.parts import PARTS
from tunewright.spec.suggest import did_you_mean
from tunewright.version import __version__

if TYPE_CHECKING:
    from tunewright.parts.base import Backend

GROUP = "tunewright"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class Hooks:
    """Every hook there is. The work is in the contracts of `tunewright.parts`."""

    @hookspec
    def tunewright_backends(self) -> Mapping[str, str]:  # type: ignore[empty-body]
        """Register backends: `{"trainer/sft": "tunewright_trl.sft:Sft"}`. Called once, when the plugin is loaded."""

    @hookspec
    def tunewright_check_spec(self, spec: Any, facts: Any) -> Iterable[Any]:  # type: ignore[empty-body]
        """A client's own rules: yield a `Finding` for each thing wrong, `field` being the way to a value of the spec.

        Called by `validate`, and by `plan` and `run` once more: `facts.rows` has of each training source the first
        rows at first, and then every row that is trained on.
        """

    @hookspec
    def tunewright_run_event(self, event: Mapping[str, Any]) -> None:
        """Hear each event of a run, as it is written to events.jsonl. An exception here is logged, not raised."""


class Entry(NamedTuple):
    """One line of the table: where a backend's class is, and who brought it."""

    target: str
    plugin: str
    distribution: str
    version: str


class Fault(NamedTuple):
    """A plugin that could not be used, and why."""

    plugin: str
    distribution: str
    why: str


@dataclass
class Host:
    """All plugins of this process.

    `blocked` names plugins to leave out, `only` those to take and no other (the environment's TUNEWRIGHT_PLUGINS, a
    list with commas, by default), `extra` modules to register beside them. Raises `BadInput` for a name that no
    installed plugin has. TUNEWRIGHT_TRACE_HOOKS=1 prints every hook call to stderr.
    """

    blocked: Collection[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    only: Collection[str] | None = None
    table: dict[str, Entry] = field(default_factory=dict, init=False)
    faults: list[Fault] = field(default_factory=list, init=False)
    plugins: dict[str, tuple[str, str]] = field(default_factory=dict, init=False)
    """Every plugin that was registered: its distribution and version."""

    def __post_init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(Hooks)
        if os.environ.get("TUNEWRIGHT_TRACE_HOOKS") == "1":
            self.manager.trace.root.setwriter(sys.stderr.write)
            self.manager.enable_tracing()
        points = list(entry_points(GROUP))
        self.blocked = self._left_out({point.name for point in points})
        for point in points:
            if point.name not in self.blocked:
                self._load(point)
        for name, module in self.extra.items():
            self._register(name, _plugin(name, module), "this process", "")

    def _left_out(self, installed: Collection[str]) -> tuple[str, ...]:
        listed = os.environ.get("TUNEWRIGHT_PLUGINS")
        if self.only is None and listed is not None:
            self.only = [name.strip() for name in listed.split(",") if name.strip()]
        for name in (*self.blocked, *(self.only or ())):
            if name not in installed:
                raise BadInput(f"no plugin is called `{name}`", fix=did_you_mean(name, installed))
        unlisted = set() if self.only is None else set(installed) - set(self.only)
        return tuple(sorted(unlisted.union(self.blocked)))

    def _load(self, point: EntryPoint) -> None:
        unmet = _unmet(point)
        if unmet:
            self.faults.append(Fault(point.name, point.distribution, unmet))
            return
        try:
            module = point.load()
        except Exception as error:  # whatever a stranger's module raises at import is that plugin's fault, by name
            why = f"import failed: {type(error).__name__}: {error}"
            self.faults.append(Fault(point.name, point.distribution, why))
            return
        self._register(point.name, module, point.distribution, point.version)

    def _register(self, name: str, plugin: ModuleType | object, distribution: str, version: str) -> None:
        if name in self.plugins:
            why = f"a plugin called `{name}` is registered by {self.plugins[name][0]} already"
            self.faults.append(Fault(name, distribution, why))
            return
        self.manager.trace("plugin", name, "of", distribution, version)
        try:
            _refuse_unmarked(plugin)
            self.manager.register(plugin, name)
            self.manager.check_pending()
            entries = self._backends(plugin)
        except Exception as error:  # a hook with a wrong signature or a misspelt name, or one that raises
            self.manager.unregister(name=name)
            self.faults.append(Fault(name, distribution, _sentence(error)))
            return
        self.plugins[name] = (distribution, version)
        for key, target in entries.items():
            why = self._refused(key, target)
            if why:
                self.faults.append(Fault(name, distribution, why))
            else:
                self.table[key] = Entry(target, name, distribution, version)

    def _backends(self, plugin: object) -> Mapping[str, str]:
        caller = self._caller("tunewright_backends", plugin)
        return {key: target for table in caller() for key, target in dict(table or {}).items()}

    def _caller(self, hook: str, plugin: object) -> Any:
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        return self.manager.subset_hook_caller(hook, others)

    def _refused(self, key: str, target: object) -> str:
        """Why a line of a plugin's table cannot be taken; empty where it can."""
        if key in self.table:
            return f"`{key}` is already registered by `{self.table[key].distribution}`"
        if not (isinstance(target, str) and target.count(":") == 1 and key.count("/") == 1):
            return f"`{key}: {target}` is not of the form `part/kind: module:Class`"
        part = key.partition("/")[0]
        return "" if part in PARTS else f"`{key}`: there is no part `{part}`; {did_you_mean(part, PARTS)}"

    def each(self, hook: str) -> Iterator[tuple[str, str, Any]]:
        """Every plugin that implements a hook, one by one: its name, its distribution, and the call."""
        for name, (distribution, _) in self.plugins.items():
            plugin = self.manager.get_plugin(name)
            if hasattr(plugin, hook):
                self.manager.trace("plugin", name, "of", distribution)
                yield name, distribution, self._caller(hook, plugin)

    def kinds(self, part: str) -> list[str]:
        """The installed kinds of a part, sorted."""
        return sorted(key.partition("/")[2] for key in self.table if key.startswith(f"{part}/"))

    def backend(self, part: str, kind: str) -> type[Backend]:
        """The class behind `part/kind`, imported now.

        Raises `BadInput` where no plugin registered it or the class is not what its key says, `MissingExtra` where
        its library is not installed.
        """
        key = f"{part}/{kind}"
        if key not in self.table:
            raise BadInput(f"no installed plugin brings `{key}`", fix=f"known: {', '.join(self.kinds(part)) or 'none'}")
        entry = self.table[key]
        return _check(self._import(key, entry), part, kind, entry)

    def make(self, part: str, options: Mapping[str, Any]) -> Any:
        """A backend from its options as plain data, as a lock or a form holds them: `{"kind": NAME, …}`."""
        backend = self.backend(part, options["kind"])
        return backend(backend.Options.model_validate(dict(options)))

    def _import(self, key: str, entry: Entry) -> Any:
        module, _, name = entry.target.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError as error:
            if error.name is not None and not error.name.startswith(module.partition(".")[0]):
                if entry.distribution == "tunewright":
                    raise MissingExtra(key, "train", error) from error
                fix = f"install it, or ask who made {entry.distribution} which extra brings it"
                raise EnvironmentFault(f"`{key}` of {entry.distribution} needs `{error.name}`", fix=fix) from error
            raise EnvironmentFault(f"plugin `{entry.plugin}` ({entry.distribution}) failed: {error}") from error
        except AttributeError as error:
            raise EnvironmentFault(
                f"plugin `{entry.plugin}` ({entry.distribution}) registers `{key}` as `{entry.target}`, "
                f"but `{module}` has no `{name}`"
            ) from error


def _plugin(name: str, given: Any) -> object:
    """What was given as a plugin; pluggy needs it hashable, which a plain namespace of hooks is not."""
    if isinstance(given, Hashable):
        return given
    module = ModuleType(name)
    vars(module).update(vars(given))
    return module


def _unmet(point: EntryPoint) -> str:
    """Which release of Tunewright a plugin needs, if it is not this one; its other needs are pip's to keep."""
    for text in point.requirements() if point.distribution != "tunewright" else ():
        if text.lower().startswith("tunewright") and not text[len("tunewright") :][:1].isalnum():
            from packaging.requirements import Requirement  # late: it costs 10 ms

            wanted = Requirement(text)
            if wanted.name.lower() == "tunewright" and not wanted.specifier.contains(__version__, prereleases=True):
                return f"needs tunewright{wanted.specifier}, this is {__version__}"
    return ""


def _refuse_unmarked(plugin: object) -> None:
    """A function with a hook's name and without the marker would never be called."""
    for name, value in vars(plugin).items():
        if name.startswith("tunewright_") and inspect.isfunction(value) and not hasattr(value, f"{GROUP}_impl"):
            raise ValueError(f"`{name}` is not marked with `@hookimpl`")


def _sentence(error: Exception) -> str:
    """An error in one line, without where the library's objects lie in memory."""
    text = " ".join(str(error).split())
    return re.sub(r" at 0x[0-9a-f]+", "", text) or type(error).__name__


def _check(found: Any, part: str, kind: str, entry: Entry) -> type[Backend]:
    where = f"plugin `{entry.plugin}` ({entry.distribution}): `{entry.target}`"
    if not (inspect.isclass(found) and issubclass(found, PARTS[part])):
        raise EnvironmentFault(f"{where} is not a {PARTS[part].__name__}")
    if getattr(found, "kind", None) != kind:
        raise EnvironmentFault(
            f"{where} is registered as `{part}/{kind}` but calls itself `{getattr(found, 'kind', None)}`"
        )
    return found
