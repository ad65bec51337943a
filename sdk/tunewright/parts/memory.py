"""What a forecast of memory is made of: a model's sizes, and what each backend tells of what it will hold.

The planner adds up, and knows no kind: a quantizer tells how many bytes a base takes (`Quantizer.weight_bytes`), an
adapter method what it trains and which inputs that needs in the backward pass (`AdapterMethod.trainable`), a trainer
how many rows it computes at once and what its optimizer keeps (`Trainer.regime`). Whoever tells nothing gives None, and
the forecast says so by name. All of it is arithmetic on a config.json: no weights, no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Any, NamedTuple

BYTES: Mapping[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a number, by the spec's names of types."""

GATED = ("llama", "mistral", "qwen2", "qwen3")
"""The `model_type`s whose layers are known here: attention, an MLP with a gate, an RMSNorm before each."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")

INPUT, MIXED, MIDDLE, INNER = "layer input", "attention output", "MLP input", "MLP inner"
"""The tensors of a layer that its linear layers read."""


class Linear(NamedTuple):
    """A linear layer that every layer of the model has one of. `reads` names the tensor that is its input."""

    name: str
    inputs: int
    outputs: int
    reads: str

    @property
    def parameters(self) -> int:
        """Numbers of its matrix."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Shape:
    """A causal language model's sizes. `linears` are those of one layer, `beside` counts the numbers of all layers that
    are no matrix: norms and biases."""

    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    tied: bool
    linears: tuple[Linear, ...]
    beside: int

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Shape | None:
        """From a config.json; None where it is not known, or of a family whose layers are not known here."""
        if not config or config.get("model_type") not in GATED or any(config.get(name) for name in EXPERTS):
            return None
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        sizes = [config.get(name) for name in names]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            return None
        vocabulary, hidden, inner, layers, heads = (int(size) for size in sizes if size is not None)
        kv_heads, head = config.get("num_key_value_heads") or heads, config.get("head_dim") or hidden // heads
        if not all(isinstance(size, int) and size > 0 for size in (kv_heads, head)):
            return None
        wide, narrow, family = heads * head, kv_heads * head, config["model_type"]
        linears = (
            Linear("q_proj", hidden, wide, INPUT), Linear("k_proj", hidden, narrow, INPUT),
            Linear("v_proj", hidden, narrow, INPUT), Linear("o_proj", wide, hidden, MIXED),
            Linear("gate_proj", hidden, inner, MIDDLE), Linear("up_proj", hidden, inner, MIDDLE),
            Linear("down_proj", inner, hidden, INNER),
        )  # fmt: skip
        beside = 2 * hidden
        if config.get("attention_bias") or family == "qwen2":
            beside += wide + 2 * narrow + (0 if family == "qwen2" else hidden)
        beside += 2 * inner + hidden if config.get("mlp_bias") else 0
        beside += 2 * head if family == "qwen3" else 0
        tied = bool(config.get("tie_word_embeddings", False))
        return cls(vocabulary, hidden, inner, layers, heads, kv_heads, head, tied, linears, layers * beside + hidden)

    @property
    def embedding(self) -> int:
        """Numbers of the embeddings; of the LM head as well, which may be the same."""
        return self.vocabulary * self.hidden

    @property
    def matrices(self) -> int:
        """Numbers of all layers' linear layers."""
        return self.layers * sum(linear.parameters for linear in self.linears)

    @property
    def parameters(self) -> int:
        """All numbers of the model; a tied head counts once."""
        return self.embedding * (1 if self.tied else 2) + self.matrices + self.beside

    def named(self, names: Collection[str]) -> tuple[Linear, ...]:
        """The linear layers whose name is among `names`, of one layer."""
        return tuple(linear for linear in self.linears if linear.name in names)


class Trainable(NamedTuple):
    """What an adapter method trains, and what that takes beside the base.

    `tensors` are the shapes of what is trained, each with how often it occurs: an optimizer may keep small ones
    otherwise. `reads` names the linear layers whose inputs the backward pass needs, `kept` counts the bytes that it
    needs besides, a computed token; `copied` those of copies that stand in the place of these inputs. `whole` where it
    is the base's own weights that are trained, which then are of `bytes_each`; else they come beside the base. `head`
    where the LM head is among them.
    """

    tensors: Mapping[tuple[int, ...], int]
    bytes_each: int
    reads: frozenset[str]
    kept: int = 0
    copied: int = 0
    whole: bool = False
    head: bool = False

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(count * prod(shape) for shape, count in self.tensors.items())

    @property
    def bytes(self) -> int:
        """Bytes of the trained weights, and of their gradients."""
        return self.parameters * self.bytes_each


class Regime(NamedTuple):
    """How a trainer goes about a step, in numbers that memory depends on.

    `rows` of the spec are computed at once, each as `sequences`. The optimizer keeps `states` bytes, its step takes
    `step` bytes for a moment, `copies` are bytes of copies of what is trained. The LM head runs
    at `positions_at_once`, and each logit takes `bytes_a_logit`. `checkpointing`: a layer's activations are computed
    again in the backward pass. `lean`: norms keep their input alone, gated MLPs their two halves, adapters no copies of
    inputs. `shares`: what rows begin with alike is computed once. `every_logit`: the loss reads the logits of all
    positions, scored or not, at once.
    """

    rows: int
    sequences: int
    states: int
    step: int
    copies: int
    checkpointing: bool
    positions_at_once: int
    bytes_a_logit: int
    lean: bool = False
    shares: bool = False
    every_logit: bool = False


class Batch(NamedTuple):
    """What is computed at once, at most: `rows` sequences of up to `longest` tokens, `supervised` positions that are
    scored. `computed` counts the tokens that go through the model: rows × longest, fewer where what rows begin with
    alike is computed once. `padded` where rows of several lengths make a mask."""

    rows: int
    longest: int
    supervised: int
    computed: int
    padded: bool = True


class Harm(IntEnum):
    """What a change that saves memory costs, the least first."""

    NOTHING = 0  # the same result, a little slower
    STATES = 1  # the optimizer's states are rounded
    TIME = 2  # the same result, clearly slower
    LOSS = 3  # the loss is estimated from fewer rows
    TYPE = 4  # the base's numbers are rounded
    PACKING = 5  # the base's numbers are packed


class Lever(NamedTuple):
    """Options of one backend that save memory: `steps` from the mildest to the strongest, each option → value."""

    harm: Harm
    costs: str
    steps: tuple[Mapping[str, Any], ...]
