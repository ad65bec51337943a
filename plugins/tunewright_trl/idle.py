"""Options and arguments that do nothing beside others: the libraries would take them and change no weight by them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunewright.parts.base import Finding
from tunewright.spec.suggest import did_you_mean
from tunewright_trl.options import LoopOptions

OF_SCHEDULE: dict[str, frozenset[str]] = {
    "cosine": frozenset({"num_cycles"}),
    "cosine_with_restarts": frozenset({"num_cycles"}),
    "polynomial": frozenset({"lr_end", "power"}),
    "inverse_sqrt": frozenset({"timescale"}),
}
"""What `lr_scheduler_kwargs` may hold, by schedule; the others take nothing. transformers/optimization.py"""
OF_SGD = frozenset({"momentum", "dampening", "nesterov"})
"""What `optim_args` may hold for `sgd`; no other optimizer here reads it. transformers/trainer_optimizer.py"""
LR_END = 1e-7
"""transformers' end of a polynomial schedule."""


def idle(options: LoopOptions) -> Iterator[Finding]:
    """What of a loop's options would be accepted and have no effect, or end in an error of the library's while it runs,
    each at its own place."""
    yield from _schedule(options)
    yield from _optimizer(options)
    if options.max_steps != -1 and "epochs" in options.model_fields_set:
        fix = "write one of the two; on the command line `--set trainer.epochs=null` takes this one out"
        yield nothing("epochs", f"beside `max_steps: {options.max_steps}`", fix, option=True)
    if "activation_checkpointing_kwargs" in options.args and not options.checkpointing:
        yield nothing("activation_checkpointing_kwargs", "without `checkpointing`", "set `checkpointing: true`")


def nothing(name: str, beside: str, fix: str, *, option: bool = False) -> Finding:
    """A finding: `name`, an argument of `args` or an option, does nothing."""
    field = name if option else f"args.{name}"
    return Finding("argument-unused", f"`{name}` does nothing {beside}", field, f"{fix}, or leave it out", at_key=True)


def _schedule(options: LoopOptions) -> Iterator[Finding]:
    schedule = options.schedule
    if schedule == "constant" and options.warmup_steps:
        beside = "with the schedule `constant`"
        yield nothing("warmup_steps", beside, "write `schedule: constant_with_warmup`", option=True)
    given: dict[str, Any] = options.args.get("lr_scheduler_kwargs") or {}
    known = OF_SCHEDULE.get(schedule, frozenset())
    for name in given if isinstance(given, dict) else ():
        if name not in known:
            message = f"the schedule `{schedule}` has no argument `{name}`"
            fix = did_you_mean(name, known) or "leave it out"
            yield Finding("unknown-argument", message, f"args.lr_scheduler_kwargs.{name}", fix, at_key=True)
    if schedule == "polynomial" and options.learning_rate is not None:
        end = given.get("lr_end", LR_END)
        if options.learning_rate <= end:
            message = f"a polynomial schedule falls to {end:g}, and {options.learning_rate:g} is not above it"
            yield Finding("bad-value", message, "learning_rate", "raise it, or give `lr_scheduler_kwargs: {lr_end: 0}`")


def _optimizer(options: LoopOptions) -> Iterator[Finding]:
    optimizer, args = options.optimizer, options.args
    beside = f"with the optimizer `{optimizer}`"
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        lion = "lion" in optimizer and name != "adam_epsilon"  # Lion has betas of its own, given by these names
        if name in args and not ("adamw" in optimizer or lion):
            yield nothing(name, beside, "take an AdamW")
    if "optim_args" in args and optimizer != "sgd":
        yield nothing("optim_args", beside, "take `optimizer: sgd`")
    elif args.get("optim_args"):
        for part in str(args["optim_args"]).replace(" ", "").split(","):
            if part.partition("=")[0] not in OF_SGD or part.count("=") != 1:
                message = f"`{part}` is nothing that `sgd` reads"
                yield Finding(
                    "bad-value", message, "args.optim_args", f"known: {', '.join(sorted(OF_SGD))}, as `k=v,k=v`"
                )
