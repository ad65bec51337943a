"""What a pass over a long piece holds grows with its length and not with the square of it: counted, not timed."""

from typing import Any

import pytest
import torch
from tiny import tiny_folder  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode

from tunewright_transformers import branch_attention
from tunewright_transformers.passes import Piece, feed

STEM, STEP = list(range(40, 60)), 32


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor) and not each._is_view():
                self.elements = max(self.elements, each.untyped_storage().nbytes() // each.element_size())
        return made
