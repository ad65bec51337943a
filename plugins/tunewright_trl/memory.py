"""What a training through TRL takes in memory, and which options save some: plain numbers, for the forecast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING

from tunewright.parts.memory import Harm, Lever, Regime, Shape, Trainable
from tunewright_trl.sharing import smooths

if TYPE_CHECKING:
    from tunewright_trl.options import LoopOptions

LOGITS_AT_ONCE = 1 << 24
"""As `tunewright_trl.logprob` has it, which imports torch; a test holds the two equal."""
TRL_POSITIONS = 256
"""Positions at once where TRL's own kernel scores: `_CHUNKED_LOGPROB_CHUNK_SIZE` of trl/trainer/utils.py."""
BYTES_A_LOGIT = {"cpu": 36, "cuda": 12}
"""Logits, probabilities and their product are there together, in fp32; on a CPU the allocator makes three times as much
of it, as `tests/bench/memory.py` has fitted."""

SMALL, BLOCK = 4096, 256
"""bitsandbytes keeps states of tensors under 4,096 numbers in 32 bits; else a byte each, with an fp32 scale a block of
256: `min_8bit_size` and `blockwise` of bitsandbytes/optim/optimizer.py."""
STATES: Mapping[str, int] = {
    "adamw_torch": 2, "adamw_torch_fused": 2, "adamw_8bit": 2, "paged_adamw_32bit": 2, "paged_adamw_8bit": 2,
    "lion_32bit": 1, "lion_8bit": 1, "paged_lion_32bit": 1, "paged_lion_8bit": 1, "sgd": 0,
}  # fmt: skip
"""Numbers that an optimizer keeps of each that is trained: both moments, Lion's momentum alone."""
EIGHT_BIT = {"adamw_torch": "adamw_8bit", "adamw_torch_fused": "adamw_8bit", "paged_adamw_32bit": "paged_adamw_8bit",
             "lion_32bit": "lion_8bit", "paged_lion_32bit": "paged_lion_8bit"}  # fmt: skip
"""Optimizers, and what each is with states of 8 bits."""
ROUNDED = "the optimizer's states are rounded to 8 bits"
RECOMPUTED = "each step takes about a third longer: activations are computed twice"
ACCUMULATED = "each step takes more passes, of fewer rows; its rows are the same"
BORROWED = (
    "each step takes more passes, of fewer rows; KTO's KL term, which the loss is held against, is estimated from "
    "those few, and the reference is asked anew"
)
UNEVEN = "; TRL weighs the rows of unequal passes a little otherwise"


def regime(
    options: LoopOptions, sequences: int, shape: Shape, trained: Trainable, device: str, validation: bool
) -> Regime:
    """Of a training with these options, in which a row is computed as so many `sequences`."""
    ours = device == "cpu" and not trained.head
    largest = max(map(prod, trained.tensors), default=0)
    at_once = trained.parameters if device == "cuda" and options.optimizer == "adamw_torch" else largest
    return Regime(
        rows=options.batch_size,
        sequences=sequences,
        states=sum(
            count * states(options.optimizer, one, trained.bytes_each) for one, count in trained.tensors.items()
        ),
        step=2 * at_once * trained.bytes_each,  # torch's AdamW: all tensors at once on a GPU, else one by one
        copies=trained.bytes if validation and options.keep == "best" else 0,
        checkpointing=options.checkpointing,
        positions_at_once=max(1, LOGITS_AT_ONCE // shape.vocabulary) if ours else TRL_POSITIONS,
        bytes_a_logit=BYTES_A_LOGIT[device],
        every_logit=smooths(options),
    )


def states(optimizer: str, tensor: tuple[int, ...], bytes_each: int) -> int:
    """Bytes that an optimizer keeps for one trained tensor of this shape, whose numbers take `bytes_each`."""
    numbers = prod(tensor)
    if optimizer == "adafactor":  # a sum for each row and each column: Shazeer & Stern 2018, arXiv:1804.04235
        return 4 * (sum(tensor) if len(tensor) > 1 else numbers)
    kept = STATES[optimizer]
    if optimizer.startswith("adamw_torch"):  # in the type of the weights themselves
        return kept * numbers * bytes_each
    if optimizer.endswith("8bit") and numbers >= SMALL:
        return kept * (numbers + 4 * -(-numbers // BLOCK))
    return kept * numbers * 4


def levers(options: LoopOptions, unequal: bool, borrows: bool = False) -> Iterator[Lever]:
    """From what the options are now. `unequal` where the loss of a step depends on how its rows are divided, `borrows`
    where rows that are computed at once lend each other what the loss reads."""
    rows, passes = options.batch_size, options.accumulation
    least = next((mark.ge for mark in type(options).model_fields["batch_size"].metadata if hasattr(mark, "ge")), 1)
    smaller = [part for part in range(rows - 1, 0, -1) if rows % part == 0 and part >= least]
    if smaller:
        steps = tuple({"batch_size": part, "accumulation": passes * rows // part} for part in smaller)
        costs = BORROWED if borrows else ACCUMULATED + (UNEVEN if unequal else "")
        yield Lever(Harm.LOSS if borrows else Harm.NOTHING, costs, steps)
    if options.optimizer in EIGHT_BIT:
        yield Lever(Harm.STATES, ROUNDED, ({"optimizer": EIGHT_BIT[options.optimizer]},))
    if not options.checkpointing:
        yield Lever(Harm.TIME, RECOMPUTED, ({"checkpointing": True},))
