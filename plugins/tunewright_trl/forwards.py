"""Forwards of our own put on single modules of a model, and taken off again."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any


class Forwards:
    """While it lasts, each module runs by the function that it is given with; then by its class's own again."""

    def __init__(self, replaced: Iterable[tuple[Any, Callable[..., Any]]]) -> None:
        self._modules = []
        for module, forward in replaced:
            module.forward = types.MethodType(forward, module)
            self._modules.append(module)

    def __len__(self) -> int:
        return len(self._modules)

    def stop(self) -> None:
        """Put the modules' own forwards back."""
        for module in self._modules:
            del module.forward
        self._modules = []
