"""What the libraries did instead of what was asked, found by looking at them after training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from torch.nn import Dropout

from tunewright.parts.base import Argument, Json
from tunewright.parts.trainer import Substitution

_OURS = frozenset({"output_dir"})  # a folder of this machine says nothing about the training


def observed(config: Any, asked: Mapping[str, Argument]) -> dict[str, Json]:
    """The library's arguments as they are now, as plain data; what JSON cannot hold is left out."""
    values = {name: _as_asked(value, asked.get(name)) for name, value in config.to_dict().items()}
    return {name: value for name, value in sorted(values.items()) if name not in _OURS and _is_json(value)}


def _as_asked(value: Any, asked: Argument | None) -> Any:
    """Plain data; a list of the one thing that was asked is that thing: so DPO's config holds its loss."""
    found = plain(value)
    return found[0] if asked is not None and found == [plain(asked.value)] else found


def plain(value: Any) -> Any:
    """Enums by their value, tuples as lists."""
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, int, float))


class Found(NamedTuple):
    """What a trainer may change of a model without a word: the dtype of every trained parameter by name, and the
    largest share that a dropout layer drops."""

    dtypes: Mapping[str, str]
    dropout: float = 0.0


def found_in(model: Any) -> Found:
    """A model's as they are now."""
    dtypes = {name: str(p.dtype).removeprefix("torch.") for name, p in model.named_parameters() if p.requires_grad}
    return Found(dtypes, max((float(m.p) for m in model.modules() if isinstance(m, Dropout)), default=0.0))


def substituted(asked: Mapping[str, Argument], trainer: Any, before: Found) -> tuple[Substitution, ...]:
    """Everything that differs from what was asked of `trainer`, after its training; `before` is its model's."""
    after = found_in(trainer.model)
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)  # accelerate wraps it
    return (
        *_arguments(asked, trainer.args),
        *_precision(trainer),
        *_dtypes(before.dtypes, after.dtypes),
        *_dropout(before.dropout, after.dropout),
        *_paging(trainer.args.optim.value, optimizer),
        *_states(optimizer),
    )


def _arguments(asked: Mapping[str, Argument], config: Any) -> Iterator[Substitution]:
    for name, argument in asked.items():
        got = _as_asked(getattr(config, name), argument)
        if got != plain(argument.value):
            yield Substitution(name, argument.value, got, "TRL or transformers changed this argument")


def _precision(trainer: Any) -> Iterator[Substitution]:
    if trainer.args.mixed_precision != "no":
        why = "the environment variable ACCELERATE_MIXED_PRECISION is set"
        yield Substitution("mixed precision", "no", trainer.args.mixed_precision, why)


def _dtypes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Substitution]:
    changed = {(before[name], after[name]) for name in before if after.get(name, before[name]) != before[name]}
    for was, now in sorted(changed):
        yield Substitution(
            "dtype of trained weights", was, now, "TRL casts what is trained on a quantized base to bf16"
        )


def _dropout(before: float, after: float) -> Iterator[Substitution]:
    if after != before:
        why = "under dropout the reference would answer otherwise in every pass: what is held to one trains without"
        yield Substitution("dropout", before, after, why)


def _paging(name: str, optimizer: Any) -> Iterator[Substitution]:
    """bitsandbytes' `is_paged` says what was asked; its state buffers say what came."""
    if not getattr(optimizer, "is_paged", False):
        return
    buffers = [state["state1"] for state in optimizer.state.values() if "state1" in state]
    if not any(getattr(buffer, "is_paged", False) for buffer in buffers):
        on_cpu = all(buffer.device.type == "cpu" for buffer in buffers)
        why = "bitsandbytes pages nothing on the CPU" if on_cpu else "no trained tensor is large enough to be paged"
        yield Substitution("optimizer", name, name.removeprefix("paged_"), f"{why}; the updates are the same")


def _states(optimizer: Any) -> Iterator[Substitution]:
    """bitsandbytes keeps the states of small tensors in 32 bits, whatever was asked."""
    settings = getattr(optimizer, "args", None)
    if getattr(settings, "optim_bits", None) != 8:
        return
    buffers = [state["state1"] for state in optimizer.state.values() if "state1" in state]
    wide = sum(buffer.element_size() == 4 for buffer in buffers)
    if wide:
        why = f"bitsandbytes keeps 32 bits where a tensor has fewer than {settings.min_8bit_size} elements"
        yield Substitution("optimizer states", "8 bits", f"32 bits for {wide} of {len(buffers)} tensors", why)
