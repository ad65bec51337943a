"""The plugin host: finds plugins, keeps one table of strings, imports a backend only when a spec names it.

One hook registers backends (`{"trainer/sft": "tunewright_trl.sft:Sft"}`); first-party plugins come in by the same
door as anyone's. A plugin that cannot be used is a fault with its distribution's name, never a crash: `--help` and
`plugins list` keep working, and a spec that needs it says why it is not there.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from tunewright.discovery import EntryPoint, entry_points
from tunewright.errors import BadInput, EnvironmentFault, MissingExtra

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
        """A client's own rules: yield a `Finding` for each thing wrong. Called by `validate`, `plan` and `run`."""

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
    """All plugins of this process. `blocked` names plugins to leave out, `extra` modules to register beside them."""

    blocked: Collection[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    table: dict[str, Entry] = field(default_factory=dict, init=False)
    faults: list[Fault] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(Hooks)
        for point in entry_points(GROUP):
            self._load(point)
        for name, module in self.extra.items():
            self._register(name, module, "this process", "")

    def _load(self, point: EntryPoint) -> None:
        if point.name in self.blocked:
            return
        try:
            module = point.load()
        except Exception as error:  # whatever a stranger's module raises at import is that plugin's fault, by name
            why = f"import failed: {type(error).__name__}: {error}"
            self.faults.append(Fault(point.name, point.distribution, why))
            return
        self._register(point.name, module, point.distribution, point.version)

    def _register(self, name: str, plugin: ModuleType | object, distribution: str, version: str) -> None:
        try:
            self.manager.register(plugin, name)
            self.manager.check_pending()
            entries = self._backends(plugin)
        except Exception as error:  # a hook with a wrong signature or a misspelt name, or one that raises
            self.manager.unregister(name=name)
            self.faults.append(Fault(name, distribution, str(error)))
            return
        for key, target in entries.items():
            if key in self.table:
                why = f"`{key}` is already registered by `{self.table[key].distribution}`"
                self.faults.append(Fault(name, distribution, why))
                continue
            self.table[key] = Entry(target, name, distribution, version)

    def _backends(self, plugin: object) -> Mapping[str, str]:
        register = getattr(plugin, "tunewright_backends", None)
        return dict(register()) if register is not None else {}

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


def _check(found: Any, part: str, kind: str, entry: Entry) -> type[Backend]:
    from tunewright.parts import PARTS

    where = f"plugin `{entry.plugin}` ({entry.distribution}): `{entry.target}`"
    if not (inspect.isclass(found) and issubclass(found, PARTS[part])):
        raise EnvironmentFault(f"{where} is not a {PARTS[part].__name__}")
    if getattr(found, "kind", None) != kind:
        raise EnvironmentFault(
            f"{where} is registered as `{part}/{kind}` but calls itself `{getattr(found, 'kind', None)}`"
        )
    return found
