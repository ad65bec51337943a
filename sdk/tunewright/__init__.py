"""Tunewright: one YAML file to a fine-tuned adapter with proof.

`Project.from_spec("client.yaml").run()` is the whole thing. Names are imported when they are first used, so that
`import tunewright` costs nothing and `validate` works where torch is absent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tunewright.version import __version__ as __version__

if TYPE_CHECKING:
    from tunewright.errors import BadInput, EnvironmentFault, Refused, TunewrightError, WorkFailed
    from tunewright.host import Host, hookimpl
    from tunewright.pipeline.plan import Plan
    from tunewright.pipeline.run import Result, Run
    from tunewright.project import Project, blame, compare
    from tunewright.spec.problems import Problem, SpecError

_HOMES = {
    "Project": "tunewright.project",
    "compare": "tunewright.project",
    "blame": "tunewright.project",
    "Plan": "tunewright.pipeline.plan",
    "Run": "tunewright.pipeline.run",
    "Result": "tunewright.pipeline.run",
    "Host": "tunewright.host",
    "hookimpl": "tunewright.host",
    "Problem": "tunewright.spec.problems",
    "SpecError": "tunewright.spec.problems",
    "TunewrightError": "tunewright.errors",
    "BadInput": "tunewright.errors",
    "EnvironmentFault": "tunewright.errors",
    "WorkFailed": "tunewright.errors",
    "Refused": "tunewright.errors",
}

__all__ = [
    "BadInput", "EnvironmentFault", "Host", "Plan", "Problem", "Project", "Refused", "Result", "Run", "SpecError",
    "TunewrightError", "WorkFailed", "blame", "compare", "hookimpl",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `tunewright` has no `{name}`")
    return getattr(import_module(_HOMES[name]), name)
