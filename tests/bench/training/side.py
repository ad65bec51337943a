"""One side of one round, in a process of its own: its peak of memory is nobody else's.

    python -m bench.training.side '{"does": "train", "side": "trl", …}'

The last line that it prints is a JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.training import data, limit

RANK = 16
CHECK = 4
"""Rows of the one step, before the clock runs, whose loss and gradient every side must have alike. It warms up, too."""
RATE = 5e-4


def main() -> None:
    """Do one job and tell what came of it."""
    job = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        found = _DOES[job["does"]](job, Path(scratch))
    print(json.dumps({**found, "peak_bytes": _peak(), "threads": _threads()}))


def rows(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Write a figure's rows; tell what a row, and each batch, needs."""
    work = Path(job["work"])
    model = Path(job["model"]) if job.get("model") else None
    prepared = data.prepare(job["job"], job["dtype"], Path(job["data"]), work / "roots", model)
    count, size = job["count"], job["batch"]
    if len(prepared.rows) < count:
        raise SystemExit(f"{prepared.spec} has {len(prepared.rows)} rows, and {count} are needed")
    chosen: Sequence[Any] = prepared.rows[:count]
    if job["kind"] == "dpo":
        chosen = data.pairs(chosen)
    file = work / "rows" / f"{job['figure']}.jsonl"
    data.write(chosen, file)
    return {
        "base": str(prepared.base),
        "file": str(file),
        "spec": prepared.spec,
        "tokens": sum(row.tokens for row in chosen),
        "flops": _needed(chosen, size, _shape(prepared.base)),
    }


def _needed(rows: Sequence[Any], size: int, shape: limit.Shape) -> float:
    """FLOPs of one epoch; with a reference, of asking it once as well."""
    flops = 0.0
    for batch in limit.batches(rows, size):
        scored = sum(row.supervised for row in batch)
        if hasattr(batch[0], "chosen"):
            both = [row.prompt + answer for row in batch for answer in (row.chosen, row.rejected)]
            need = limit.tokens(both, scored)
            flops += limit.asking(shape, need, RANK)
        else:
            need = limit.tokens([row.ids for row in batch], scored)
        flops += limit.training(shape, need, RANK)
    return flops


def train(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """One step on the first rows, which every side must agree on; then one epoch by the clock."""
    from bench.training.clock import Clock

    side, chosen = _side(job), data.read(Path(job["file"]))
    begin(side.model, scale=0.02)
    checked, clock = Clock(), Clock()
    with checked.running():
        side.train(chosen[:CHECK], {**job["settings"], "batch": CHECK, "rate": RATE}, scratch / "check")
    with clock.running():
        given = side.train(chosen, {**job["settings"], "rate": RATE}, scratch / "timed")
    # TRL's default asks the reference within its loss, which no method tells: both completions of every pair
    within = 2 * len(chosen) if job["settings"]["kind"] == "dpo" and job["side"] == "trl" else 0
    return {
        "rows": len(chosen),
        "seconds": sum(clock.seconds) + clock.reference,
        "steps": clock.seconds,
        "reference_seconds": clock.reference,
        "referenced": clock.referenced or within,
        "losses": clock.losses,
        "check": {"loss": checked.losses[0], "norm": checked.norms[0]},
        **given,
        **_cuda_peak(),
    }


def until(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Train until enough of the test rows are answered exactly; the seconds of asking are not counted.

    Both sides begin with the same adapter, whose B is zero, and are asked by the same engine.
    """
    from bench.training.clock import Clock

    side, chosen = _side(job), data.read(Path(job["file"]))
    begin(side.model, scale=0.0)
    asked = data.questions(job["job"], job["questions"], Path(job["data"]))
    looks: list[tuple[int, float]] = []

    def look(model: Any, step: int) -> bool:
        if step < job["from"] or step % job["every"]:
            return False
        looks.append((step, _exact_match(model, Path(job["base"]), asked)))
        print(f"step {step}: exact match {looks[-1][1]:.2f}", file=sys.stderr, flush=True)
        return looks[-1][1] >= job["target"]

    clock = Clock(look)
    with clock.running():
        side.train(chosen, {**job["settings"], "rate": RATE}, scratch)
    reached = bool(looks) and looks[-1][1] >= job["target"]
    return {"seconds": sum(clock.seconds), "steps": clock.seconds, "looks": looks, "reached": reached}


def adapter(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Train an adapter by Tunewright for evaluations to ask; kept, so that it is made once."""
    folder = Path(job["folder"])
    if not (folder / "adapter_model.safetensors").is_file():
        side = _side({**job, "side": "tunewright"})
        side.host.make("loader", {"kind": "transformers"}).seed(0)
        begin(side.model, scale=0.0)
        side.train(data.read(Path(job["file"])), {**job["settings"], "rate": RATE}, scratch)
        folder.mkdir(parents=True, exist_ok=True)
        side.method.save(side.model, folder)
    return {"folder": str(folder)}


def ask(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Ask for answers to test rows; tell them, and what they needed."""
    from bench.training import asking

    asked = data.questions(job["job"], job["questions"], Path(job["data"]))
    prompts = [one["prompt"] for one in asked]
    way = asking.ours if job["side"] == "tunewright" else asking.theirs
    found = way(Path(job["base"]), Path(job["adapter"]), prompts, job["dtype"])
    return {
        "rows": len(prompts),
        "seconds": found.seconds,
        "answers": found.answers,
        "flops": _asked_flops(Path(job["base"]), prompts, found.answers),
        **_cuda_peak(),
    }


def _asked_flops(base: Path, prompts: Sequence[Any], answers: Sequence[list[int]]) -> float:
    """Of each token that differs from the beginning on, of all prompts with their answers; each answer is scored."""
    from tunewright.data.mask import prompt_ids
    from tunewright.host import Host

    tokenizer = Host().make("loader", {"kind": "transformers"}).tokenizer(base)
    whole = [[*prompt_ids(one, tokenizer), *answer[:-1]] for one, answer in zip(prompts, answers, strict=True)]
    return limit.asking(_shape(base), limit.tokens(whole, sum(map(len, answers))), RANK)


def profile(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Where the time of one step of Tunewright's goes."""
    from bench.training.profile import profiled

    side, chosen = _side({**job, "side": "tunewright"}), data.read(Path(job["file"]))
    begin(side.model, scale=0.02)
    return profiled(lambda: side.train(chosen, {**job["settings"], "rate": RATE}, scratch))


def probe(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What the machine can do."""
    from bench.training import probe as machine

    return {**machine.probe(), "dtype": machine.dtype()}


def begin(model: Any, scale: float) -> None:
    """Give an adapter the same numbers on every side, drawn by its parameters' names; `scale` is B's."""
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(drawn * (scale if "lora_B" in name else 0.02))


def _side(job: dict[str, Any]) -> Any:
    arguments = (Path(job["base"]), job["quantizer"], job["dtype"], RANK)
    if job["side"] == "tunewright":
        from bench.training.ours import Ours

        return Ours(*arguments)
    from bench.training.theirs import Theirs

    return Theirs(job["side"], *arguments)


def _exact_match(model: Any, base: Path, asked: Sequence[dict[str, Any]]) -> float:
    import torch

    from tunewright.host import Host
    from tunewright_transformers.engine import TransformersSubject

    tokenizer = Host().make("loader", {"kind": "transformers"}).tokenizer(base)
    training = model.training
    model.eval()
    with torch.no_grad():
        subject = TransformersSubject(model, tokenizer, "", batch_tokens=8192)
        answers = subject.complete([one["prompt"] for one in asked], limit=12)
    model.train(training)
    wanted = [_text(one["answer"]) for one in asked]
    return sum(answer.text.strip() == want for answer, want in zip(answers, wanted, strict=True)) / len(asked)


def _text(answer: Any) -> str:
    return str(answer if isinstance(answer, str) else answer[-1]["content"]).strip()


def _shape(base: Path) -> limit.Shape:
    return limit.Shape.of(json.loads((base / "config.json").read_text("utf-8")))


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _cuda_peak() -> dict[str, int]:
    """Most bytes that torch held of a GPU's memory, where there is one."""
    import torch

    return {"cuda_peak_bytes": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {}


def _peak() -> int:
    import resource

    from tunewright.pipeline.meter import MAXRSS, _high_water

    # VmHWM is this program's own; `ru_maxrss` begins with what the process that started it held
    return _high_water("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS


_DOES = {one.__name__: one for one in (rows, train, until, adapter, ask, profile, probe)}

if __name__ == "__main__":
    main()
