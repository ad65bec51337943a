"""Runs inside vLLM's own processes, on a CPU: the products of LoRA, right for the base's rows and once an adapter.

As vLLM 0.32 has them for a CPU, the index -1, "no adapter", is read as Python reads it: the base's tokens in a batch
with an adapter's are answered by the last adapter that is loaded. And every token's matrices are copied one by one.
Here a batch's tokens are put together by their adapter, once a step; those of the base are left alone.

This file is put on that process's path by itself: it imports nothing of Tunewright. What it replaces is vLLM's
`lora/punica_wrapper/punica_cpu.py`; vLLM finds it as a plugin (https://docs.vllm.ai, "Plugin System").
"""

from __future__ import annotations

from typing import Any, NamedTuple

MARK = "tunewright: LoRA on the CPU goes adapter by adapter"
"""What is said once the replacement is in use."""


class Rows(NamedTuple):
    """Which rows of a batch are whose: `(adapter's slot, its rows)` for each adapter; the base's are in none."""

    count: int
    by_adapter: tuple[tuple[int, Any], ...]


def rows_of(indices: Any) -> Rows:
    """Of each row's adapter slot, [rows], -1 for the base. A run of rows is a slice, which copies nothing."""
    import torch

    found: dict[int, list[int]] = {}
    for row, slot in enumerate(indices.tolist()):
        if slot >= 0:
            found.setdefault(slot, []).append(row)
    parted = [(slot, rows, slice(rows[0], rows[-1] + 1)) for slot, rows in found.items()]
    return Rows(
        len(indices),
        tuple((slot, run if run.stop - run.start == len(rows) else torch.tensor(rows)) for slot, rows, run in parted),
    )


def add_product(y: Any, x: Any, weights: Any, rows: Rows, scale: float = 1.0) -> None:
    """`y[row] += scale · weights[slot of row] · x[row]` in y's type; y is [≥ rows, ≥ out], weights [slots, 1, out, in].

    The adapter and the model may be padded to different widths: the narrower one counts.
    """
    for slot, where in rows.by_adapter:
        weight = weights[slot]
        weight = weight[0] if weight.dim() == 3 else weight
        width = min(weight.shape[0], y.shape[1])
        product = x[: rows.count][where].to(y.dtype) @ weight[:width].to(y.dtype).t()
        y[: rows.count, :width][where] += product if scale == 1.0 else product * scale


def register() -> None:
    """What vLLM calls in each of its processes. On another platform than a CPU nothing is replaced."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.punica_wrapper import punica_cpu

    if not hasattr(punica_cpu.PunicaWrapperCPU, "tunewright"):
        punica_cpu.PunicaWrapperCPU = _replacement(punica_cpu.PunicaWrapperCPU)


def _replacement(known: Any) -> Any:
    class AdapterByAdapter(known):  # type: ignore[misc]
        """vLLM's own wrapper but for the products."""

        tunewright = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            print(MARK, flush=True)

        def update_metadata(self, *args: Any, **kwargs: Any) -> None:
            """Once a step."""
            super().update_metadata(*args, **kwargs)
            self._tokens, self._sampled = rows_of(self.token_lora_indices), rows_of(self.sampler_indices)

        def add_shrink(self, y: Any, x: Any, lora_a_stacked: Any, scale: float, **kwargs: Any) -> None:
            """`y[i] = scale · A_i · x`, from zeros: y is [slices, rows, r]."""
            x = x.view(-1, x.shape[-1])
            for out, weights in zip(y, lora_a_stacked, strict=True):
                flat = out.view(-1, out.shape[-1])
                flat.zero_()
                add_product(flat, x, weights, self._tokens, scale)

        def add_expand(
            self,
            y: Any,
            x: Any,
            lora_b_stacked: Any,
            output_slices: Any,
            offset_start: int = 0,
            add_inputs: bool = True,
            **kwargs: Any,
        ) -> None:
            """`y[:, slice of i] += B_i · x[i]`, of each projection that is packed beside others."""
            y, start = y.view(-1, y.shape[-1]), offset_start
            for given, weights, width in zip(x, lora_b_stacked, output_slices, strict=True):
                out = y[:, start : start + width]
                if not add_inputs:
                    out.zero_()
                add_product(out, given, weights, self._tokens)
                start += width

        def add_lora_embedding(
            self, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True, **kwargs: Any
        ) -> None:
            """`y += B · x`."""
            if not add_inputs:
                y.zero_()
            add_product(y, x, lora_b_stacked, self._tokens)

        def add_lora_logits(
            self, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, **kwargs: Any
        ) -> None:
            """`y += scale · B · A · x`, of the rows that are sampled from."""
            import torch

            y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
            between = torch.zeros((x.shape[0], lora_b_stacked.shape[-1]), dtype=torch.float32, device=x.device)
            add_product(between, x, lora_a_stacked, self._sampled, scale)
            add_product(y, between, lora_b_stacked, self._sampled)

    return AdapterByAdapter
