"""What is put up around a training and taken down after it: silence, and a model and a tokenizer left as they were."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from torch.nn import Dropout

from tunewright.errors import TunewrightWarning

LIBRARIES = ("trl", "transformers", "accelerate", "peft", "bitsandbytes", "datasets")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Import the training libraries and keep them silent: what matters of what they say is an event, a substitution or
    a warning of our own.

    Errors still come through. Telemetry is off from before the first import, where the hub's client reads it.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", TunewrightWarning)  # what we say ourselves is for the person
        _hush(loggers)
        import trl.trainer.sft_trainer  # noqa: F401  transformers sets its logger's level when it is imported

        levels = [logger.level for logger in loggers]
        _hush(loggers)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _hush(loggers: list[logging.Logger]) -> None:
    for logger in loggers:
        logger.setLevel(logging.ERROR)


@contextlib.contextmanager
def preserved(model: Any, tokenizer: Any) -> Iterator[None]:
    """Leave nothing of the trainer on the model: its patched forward, its tags, the ids and `use_cache` it overwrites.

    `model` is a transformers model or a PEFT one around it. Parameters are what training is for and stay; gradients,
    train mode and activation checkpointing go; dropout that was switched off is on again.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    configs = (base.config, base.config.get_text_config(), getattr(base, "generation_config", None))
    before = [(thing, _attributes(thing)) for thing in (model, base, *configs) if thing is not None]
    modules = [(module, module.training, set(module._forward_hooks)) for module in model.modules()]
    dropped = [(module, module.p) for module in model.modules() if isinstance(module, Dropout)]
    pad, checkpointed = tokenizer.pad_token, base.is_activation_checkpointing
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        if base.is_activation_checkpointing and not checkpointed:
            base.activation_checkpointing_disable()
        for module, training, hooks in modules:
            module.training = training
            for added in (
                module._forward_hooks.keys() - hooks
            ):  # TRL and transformers each add one, and forget the first
                del module._forward_hooks[added]
        for module, share in dropped:
            module.p = share
        for thing, attributes in before:
            vars(thing).clear()
            vars(thing).update(attributes)
        if tokenizer.pad_token != pad:
            tokenizer.pad_token = pad


def _attributes(thing: Any) -> dict[str, Any]:
    """A shallow copy, lists copied too: a trainer that appends to one is undone as well. A module's tables of
    parameters, hooks and children stay the same objects."""
    return {name: copy.copy(value) if isinstance(value, list) else value for name, value in vars(thing).items()}
