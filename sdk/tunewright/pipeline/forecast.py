"""How much memory each step will take at most, from a config.json and the options: arithmetic, no weights, no torch.

A step's forecast is a sum of terms, each of which says where it comes from. What a quantizer, an adapter method or a
trainer knows, it tells through its contract (`tunewright.parts.memory`); what every such model does alike stands here.
The few numbers that no config tells are fitted: `tests/bench/memory.py` measures them, docs/explanation/memory.md has
the figures.

Activations are those that the backward pass of transformers' own layers reads, counted with torch's saved-tensor hooks
(Korthikanti et al. 2022, arXiv:2205.05198, count them for GPT); attention is torch's fused kernel, which keeps queries,
keys, values, output and a number a head, and no matrix of scores.
"""

from __future__ import annotations

from typing import NamedTuple

from tunewright.parts.memory import BYTES, INNER, INPUT, MIDDLE, Batch, Regime, Shape, Trainable

FLOOR = {"cpu": 600_000_000, "cuda": 600_000_000}
"""Bytes of a process that has imported its libraries and holds no model; of a GPU, its context (not measured)."""
SLACK = {"cpu": 1.6, "cuda": 1.05}
"""What the allocator makes of activations: between them lie holes that temporary tensors left. On a CPU that is glibc's
with its moving threshold: with a fixed one (`MALLOC_MMAP_THRESHOLD_`) it is 1.0, and a step takes far longer."""
RECOMPUTED = {"cpu": 0.85, "cuda": 0.0}
"""What checkpointing leaves, as a share of all that would be kept without it: each layer that is computed again leaves
holes as well. Where the allocator leaves none, the layers' inputs and one layer are all."""
WORK = {"cpu": 0.0, "cuda": 1.0}
"""How many times the tensors of one layer's MLP and its input are there at once while its gradients are computed. On a
CPU they lie in the holes."""
READ = 500_000_000
"""Bytes that a merge takes beyond the libraries and the largest file (`tests/bench/merge_memory.py` holds it)."""
LARGEST_FILE = 5_000_000_000
"""Libraries cut weights into files of at most so many bytes."""


class Term(NamedTuple):
    """One line of a forecast. `gives_way` where the system takes it back when memory is short: pages of a file."""

    name: str
    bytes: int
    gives_way: bool = False


class Peak(NamedTuple):
    """The most that one phase of a step holds: the sum of its terms."""

    phase: str
    terms: tuple[Term, ...]

    @property
    def bytes(self) -> int:
        """What must be there: without what gives way."""
        return sum(term.bytes for term in self.terms if not term.gives_way)

    @property
    def resident(self) -> int:
        """What the process is seen to hold, with what gives way."""
        return sum(term.bytes for term in self.terms)


class Base(NamedTuple):
    """A base as it is loaded: its shape, the type of its unquantized numbers, bytes of its weights in memory and in
    its files, and those of its widest layer while that is unpacked; of all layers that a CPU keeps unpacked while it
    asks, `kept`.

    Tensors of the files' own type are the mapped files. So where a base is packed while it is loaded, the files stay
    mapped for its embeddings' sake: `mapped` bytes of pages that were read and that nobody needs.
    """

    shape: Shape
    dtype: str
    weights: int
    stored: int
    unpacked: int
    mapped: int = 0
    kept: int = 0


def loading(base: Base, device: str) -> Peak:
    """Reading the files and packing what is packed. A file of the weights' own type is mapped, and is the weights."""
    read = 0 if base.stored == base.weights else base.stored
    terms = (_floor(device), Term("weights", base.weights), Term("unpacked layer", base.unpacked))
    return Peak("load", _some((*terms, Term("files, as they are read", read, gives_way=True))))


def training(base: Base, trained: Trainable, regime: Regime, batch: Batch, device: str) -> Peak:
    """A whole optimizer step, from the second on: the first leaves gradients' and states' memory behind.

    Activations stand at their most when the forward pass ends; then the LM head's chunk of logits comes on top, or,
    once that is gone, the gradients of the last layer. The optimizer's step has neither.
    """
    shape, each = base.shape, BYTES[base.dtype]
    per_token = kept_per_token(shape, trained, each, padded=batch.padded, lean=regime.lean)
    activations = batch.computed * per_token
    if regime.checkpointing:
        alone = batch.computed * (shape.layers * shape.hidden * each + per_token // shape.layers)
        activations = max(alone, round(activations * RECOMPUTED[device] / SLACK[device]))
    activations += batch.computed * shape.hidden * (4 + 2 * each)  # after the last layer: the final norm
    activations += attention_mask(batch, each)
    head = logits(shape, regime, batch, each)
    layer = round(WORK[device] * batch.computed * (3 * shape.inner + 2 * shape.hidden) * each) + base.unpacked
    moment = Term("logits", head) if head >= layer else Term("gradients of a layer", layer)
    passing: tuple[Term, ...] = (Term("activations", round(SLACK[device] * activations)), moment)
    if sum(term.bytes for term in passing) < regime.step:
        passing = (Term("optimizer's step", regime.step),)
    own = Term("trained weights" if trained.whole else "adapter", trained.bytes)
    kept = (
        Term("gradients", trained.bytes),
        Term("optimizer", regime.states),
        Term("best weights", regime.copies),
        Term("files, still mapped", base.mapped if device == "cpu" else 0, gives_way=True),
    )
    weights = () if trained.whole else (Term("weights", base.weights),)
    return Peak("train", _some((_floor(device), *weights, own, *kept, *passing)))


def asking(base: Base, trained: Trainable | None, tokens: int, device: str) -> Peak:
    """Answering in batches of so many tokens: keys and values of all of them, and one layer's tensors."""
    shape, each = base.shape, BYTES[base.dtype]
    cache = tokens * 2 * shape.kv_heads * shape.head * shape.layers * each
    kept = base.kept if device == "cpu" else 0
    at_work = _at_work(base._replace(unpacked=0) if kept else base, tokens)
    working = (Term("weights, unpacked", kept), Term("keys and values", cache), Term("a layer at work", at_work))
    return Peak("evaluate", _some((*_asked(base, trained, device), *working)))


def referring(base: Base, trained: Trainable | None, regime: Regime, batch: Batch, device: str) -> Peak:
    """Asking about rows before they are trained on: one layer's tensors, then the LM head's chunk; nothing is kept of
    them. `trained` is None where it is the bare base that is asked."""
    each = BYTES[base.dtype]
    layer = _at_work(base, batch.computed) + attention_mask(batch, each)
    head = logits(base.shape, regime, batch, each)
    moment = Term("logits", head) if head >= layer else Term("a layer at work", layer)
    return Peak("reference", _some((*_asked(base, trained, device), moment)))


def _at_work(base: Base, tokens: int) -> int:
    return tokens * (3 * base.shape.inner + 4 * base.shape.hidden) * BYTES[base.dtype] + base.unpacked


def _asked(base: Base, trained: Trainable | None, device: str) -> tuple[Term, ...]:
    adapter = 0 if trained is None or trained.whole else trained.bytes
    mapped = Term("files, still mapped", base.mapped if device == "cpu" else 0, gives_way=True)
    return _floor(device), Term("weights", base.weights), Term("adapter", adapter), mapped


def merging(base: Base) -> Peak:
    """Tensor by tensor, on the CPU: never the whole base."""
    largest = min(base.stored, LARGEST_FILE)
    return Peak("merge", (_floor("cpu"), Term("largest file", largest), Term("a tensor at work", READ)))


def kept_per_token(shape: Shape, trained: Trainable, each: int, padded: bool, lean: bool = False) -> int:
    """Bytes that all layers keep of a token for the backward pass, numbers of `each` bytes.

    Of each layer: what both norms read, in fp32; what the trained layers read; queries, keys, values and the output of
    attention; the gate before and after its activation, and what it is multiplied with. A padded batch has a mask, with
    which keys and values are repeated for every head of queries. `lean` as `Regime` has it.
    """
    copies = bool(trained.copied) and not lean
    read = set() if copies else {linear.reads for linear in shape.linears if linear.name in trained.reads}
    wide, heads = shape.heads * shape.head, shape.heads if padded else shape.kv_heads
    numbers = 2 * wide + 2 * heads * shape.head + (2 if lean else 3) * shape.inner
    numbers += shape.hidden * ((INPUT in read) + (MIDDLE in read)) + shape.inner * (INNER in read)
    norms = 2 * shape.hidden * (each if lean else 4) + (shape.heads + 2) * 4
    return shape.layers * (numbers * each + norms) + trained.kept + (trained.copied if copies else 0)


def attention_mask(batch: Batch, each: int) -> int:
    """Of a padded batch: who sees whom, as truth values and as numbers to add."""
    return batch.rows * batch.longest**2 * (1 + each) if batch.padded else 0


def logits(shape: Shape, regime: Regime, batch: Batch, each: int) -> int:
    """The LM head's chunk, and the scored positions' hidden states with their gradients."""
    if regime.every_logit:
        scored = positions = batch.rows * batch.longest
    else:
        scored, positions = batch.supervised, min(batch.supervised, regime.positions_at_once)
    return positions * shape.vocabulary * regime.bytes_a_logit + 2 * scored * shape.hidden * each


def _floor(device: str) -> Term:
    return Term("libraries" if device == "cpu" else "context", FLOOR[device])


def _some(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    return tuple(term for term in terms if term.bytes)
