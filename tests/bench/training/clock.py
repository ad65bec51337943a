"""When optimizer steps end, and what transformers' loop says of each: every side trains by that loop.

The trainer's own list of callbacks is listened to, not a callback of a side, so that no side is measured otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.trainer_callback import CallbackHandler

AfterStep = Callable[[Any, int], bool]
"""(model, step) → whether the training may stop here. Its seconds are not counted."""


class Clock:
    """Seconds, losses and gradient norms of the steps of one training."""

    def __init__(self, after_step: AfterStep | None = None) -> None:
        self.after_step = after_step
        self.seconds: list[float] = []
        """Of each step, from the end of the one before: its batch is made in it."""
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.reference = 0.0
        """Seconds in which a reference model was asked before the first step."""
        self.referenced = 0
        """Sequences that a reference model was asked for, whenever."""
        self._last: float | None = None

    def begin(self) -> None:
        """The first step begins."""
        self._last = _now()

    def step(self, model: Any, number: int) -> bool:
        """A step has ended; says whether the training is to stop."""
        assert self._last is not None, "a step has ended and none had begun"
        self.seconds.append(_now() - self._last)
        stop = self.after_step is not None and self.after_step(model, number)
        self._last = _now()
        return stop

    def log(self, logs: dict[str, Any]) -> None:
        """What the loop says after a step."""
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.norms.append(float(logs["grad_norm"]))

    @contextmanager
    def running(self) -> Iterator[Clock]:
        """Listen to every training of this process meanwhile."""
        began, ended, logged = CallbackHandler.on_train_begin, CallbackHandler.on_step_end, CallbackHandler.on_log

        def on_train_begin(handler: Any, *args: Any) -> Any:
            control = began(handler, *args)
            self.begin()
            return control

        def on_step_end(handler: Any, args: Any, state: Any, control: Any) -> Any:
            control = ended(handler, args, state, control)
            if self.step(handler.model, state.global_step):
                control.should_training_stop = True
            return control

        def on_log(handler: Any, args: Any, state: Any, control: Any, logs: Any) -> Any:
            self.log(logs)
            return logged(handler, args, state, control, logs)

        listening = _replaced(CallbackHandler, on_train_begin=on_train_begin, on_step_end=on_step_end, on_log=on_log)
        with listening, self._asking_the_reference():
            yield self

    @contextmanager
    def _asking_the_reference(self) -> Iterator[None]:
        """TRL's method, which both sides call: before the first step where it is asked once, else within the steps."""
        from trl import DPOTrainer

        asked = DPOTrainer.compute_ref_log_probs

        def compute_ref_log_probs(trainer: Any, model: Any, inputs: Any) -> Any:
            start = _now()
            self.referenced += len(inputs["input_ids"])
            try:
                return asked(trainer, model, inputs)
            finally:
                if self._last is None:
                    self.reference += _now() - start

        with _replaced(DPOTrainer, compute_ref_log_probs=compute_ref_log_probs):
            yield


@contextmanager
def _replaced(owner: type, **functions: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
