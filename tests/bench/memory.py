"""How near the memory forecast comes: peaks of trainings in processes of their own, against what `plan` would say.

python tests/bench/memory.py [--measured FILE]

Sixteen settings of random Llamas in fp32 on a CPU, two optimizer steps each. The forecast's free numbers, those in
`sdk/tunewright/pipeline/forecast.py`, are fitted on the first eight; the other eight, of other models, ranks, batches
and lengths, judge them. FILE keeps what was measured, so that the fit can be looked at again in a second.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.pipeline import forecast as model

MODELS: dict[str, dict[str, int]] = {
    "8M": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8, "num_attention_heads": 4,
           "num_key_value_heads": 2, "vocab_size": 8192},
    "44M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12, "num_attention_heads": 8,
            "num_key_value_heads": 4, "vocab_size": 16384},
    "30M": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 10, "num_attention_heads": 6,
            "num_key_value_heads": 6, "vocab_size": 32000},
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152},
}  # fmt: skip
"""Sizes of the bases; the last is SmolLM2's."""
MEDIAN, LOWEST = 0.08, -0.05  # what is asked of the judged settings
TOO_LOW = 4.0  # how many times a forecast that is too low counts: who believes it runs out of memory
OPTIMIZER_STEPS = 2  # the optimizer's states are made in the first, beside the activations in the second


class Setting(NamedTuple):
    """One training: what a spec would say of it."""

    model: str
    r: int
    batch: int
    length: int
    quantizer: str = "none"
    checkpointing: bool = False
    optimizer: str = "adamw_torch"
    targets: str = "attention+mlp"

    def __str__(self) -> str:
        checkpointing = ", checkpointing" if self.checkpointing else ""
        return f"{self.model}, r {self.r}, {self.batch} × {self.length}, {self.quantizer}{checkpointing}"

    def parts(self) -> dict[str, dict[str, Any]]:
        """The parts of the spec that decide over the memory."""
        packed = {} if self.quantizer == "none" else {"compute_dtype": "fp32"}
        return {
            "quantizer": {"kind": self.quantizer, **packed},
            "adapter": {"kind": "lora", "r": self.r, "alpha": 2 * self.r, "targets": self.targets, "dtype": "fp32"},
            "trainer": {
                "kind": "sft", "batch_size": self.batch, "max_length": self.length, "max_steps": OPTIMIZER_STEPS,
                "checkpointing": self.checkpointing, "optimizer": self.optimizer, "learning_rate": 1e-3,
            },
        }  # fmt: skip

    @property
    def supervised(self) -> int:
        """Tokens of a row that bear a loss: the last quarter."""
        return self.length // 4


FITTED = (
    Setting("8M", 8, 8, 256), Setting("8M", 32, 32, 128, "nf4"), Setting("8M", 16, 16, 512, checkpointing=True),
    Setting("30M", 24, 4, 320), Setting("30M", 12, 12, 112, "nf4"), Setting("30M", 48, 6, 192, checkpointing=True),
    Setting("30M", 4, 10, 160), Setting("44M", 4, 8, 256, "nf4", True),
)  # fmt: skip
JUDGED = (
    Setting("44M", 8, 2, 512, "nf4"), Setting("44M", 64, 8, 128, "none", True), Setting("44M", 16, 4, 256),
    Setting("44M", 32, 8, 96), Setting("135M", 20, 2, 144), Setting("135M", 10, 4, 80, "nf4"),
    Setting("135M", 56, 3, 176, "none", True), Setting("135M", 28, 5, 120, "nf4", True),
)  # fmt: skip
"""Both halves have small and large vocabularies, and packed bases with checkpointing and without: what only one half
has cannot be fitted on the other."""


def make_base(folder: Path, model: str) -> None:
    """A random Llama in fp32 with a tokenizer of as many words."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    sizes = MODELS[model]
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True, eos_token_id=2, bos_token_id=1))
    made.save_pretrained(folder)
    words = {f"t{number}": number for number in range(sizes["vocab_size"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="t2").save_pretrained(folder)


def train(base: Path, setting: Setting, scratch: Path) -> dict[str, int]:
    """Train, and give the bytes that this process held: after its imports, at most in loading, at most in training."""
    import random

    import bitsandbytes  # noqa: F401
    import trl

    from tunewright.host import Host
    from tunewright.parts.trainer import TokenRow, TrainJob
    from tunewright.pipeline.meter import Meter, resident

    host = Host()
    made = {part: host.make(part, raw) for part, raw in setting.parts().items()}
    loader = host.make("loader", {"kind": "transformers"})
    _ = loader.device(), trl.SFTTrainer, trl.SFTConfig
    imports, meter = resident(), Meter()
    model = loader.model(base, made["quantizer"], "fp32", "train")
    loading, meter = meter.peak_rss_bytes(), Meter()
    wrapped = made["adapter"].wrap(model, None)
    draw, words = random.Random(0), MODELS[setting.model]["vocab_size"]
    rows = []
    for number in range(setting.batch * OPTIMIZER_STEPS):
        ids = [draw.randrange(3, words) for _ in range(setting.length)]
        plain = setting.length - setting.supervised
        rows.append(TokenRow(f"{number}", f"{number}", ids, [-100] * plain + ids[plain:]))
    scratch.mkdir()
    made["trainer"].train(
        TrainJob(wrapped, loader.tokenizer(base), rows, [], 0, scratch, lambda event: None,
                 made["trainer"].derive(_facts()))
    )  # fmt: skip
    return {"imports": imports, "load": loading, "train": meter.peak_rss_bytes()}


def _facts() -> Any:
    from tunewright.parts import Cap, Facts

    return Facts(offers={"adapter": frozenset({Cap.ADAPTS, Cap.BY_TOKEN})})


def measure(setting: Setting, folder: Path) -> dict[str, int]:
    """One setting in a process of its own, its base made by another."""
    base = folder / setting.model
    if not base.is_dir():
        _apart("make", str(base), setting.model)
    work = str(folder / f"{setting}-work")
    found: dict[str, int] = json.loads(_apart("train", str(base), json.dumps(setting), work))
    return found


def _apart(*words: str) -> str:
    done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
    return (done.stdout.splitlines() or [""])[-1]


def measured(kept: Path | None) -> dict[Setting, dict[str, int]]:
    """Every setting's peaks; those that FILE has are not measured again."""
    known = json.loads(kept.read_text("utf-8")) if kept is not None and kept.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in (*FITTED, *JUDGED):
            if str(setting) not in known:
                known[str(setting)] = measure(setting, Path(folder))
                print(f"{setting}: {known[str(setting)]}", file=sys.stderr)
                if kept is not None:
                    kept.write_text(json.dumps(known, indent=1))
    return {setting: known[str(setting)] for setting in (*FITTED, *JUDGED)}


class Judged(NamedTuple):
    """A setting's forecast against what was measured, in bytes; `error` is their share, below 0 where it was too low.

    `beyond` is the same of what comes beyond the libraries, which every process holds.
    """

    setting: Setting
    forecast: int
    peak: int

    @property
    def error(self) -> float:
        return self.forecast / self.peak - 1

    @property
    def beyond(self) -> float:
        floor = model.FLOOR["cpu"]
        return (self.forecast - floor) / (self.peak - floor) - 1


_logit = 0  # bytes a logit while they are fitted; those that the trainer tells where it is 0


@cache
def _told(setting: Setting) -> tuple[Any, ...]:
    """What the backends tell of a setting."""
    from tunewright.host import Host
    from tunewright.pipeline.planner import COUNTED, Lengths, base_of, trainable_on

    host = Host()
    made = {part: host.make(part, raw) for part, raw in setting.parts().items()}
    config = {"model_type": "llama", "tie_word_embeddings": True, "dtype": "float32", **MODELS[setting.model]}
    base = base_of(config, made["quantizer"], "fp32")
    assert isinstance(base, model.Base)
    trained = trainable_on(base, made["quantizer"], made["adapter"])
    assert trained is not None
    regime = made["trainer"].regime(base.shape, trained, "cpu", _facts())
    lengths = Lengths(setting.length, setting.supervised, setting.batch, COUNTED, even=True)
    return base, trained, regime, lengths.batch(regime)


def forecast(setting: Setting) -> int:
    """What `plan` says of the setting's training, in bytes."""
    base, trained, regime, batch = _told(setting)
    each_logit = _logit or regime.bytes_a_logit
    return model.training(base, trained, regime._replace(bytes_a_logit=each_logit), batch, "cpu").resident


def judge(settings: tuple[Setting, ...], peaks: dict[Setting, dict[str, int]]) -> list[Judged]:
    """Each setting's forecast by the numbers that stand in `tunewright.pipeline.forecast` now."""
    return [Judged(setting, forecast(setting), peaks[setting]["train"]) for setting in settings if setting in peaks]


def fit(peaks: dict[Setting, dict[str, int]]) -> dict[str, float]:
    """The free numbers with the least squares of error on the settings that are fitted.

    Leaves them in `tunewright.pipeline.forecast`.
    """
    best, found = float("inf"), dict[str, float]()
    tried = itertools.product(range(120, 241, 5), range(60, 201, 5), range(0, 31, 10), range(12, 41, 4))
    for slack, recomputed, work, logit in tried:
        free = {"SLACK": slack / 100, "RECOMPUTED": recomputed / 100, "WORK": work / 10, "BYTES_A_LOGIT": logit}
        _set(free)
        lost = sum(one.error**2 * (TOO_LOW if one.error < 0 else 1) for one in judge(FITTED, peaks))
        if lost < best:
            best, found = lost, free
    _set(found)
    return found


def _set(free: dict[str, float]) -> None:
    global _logit
    model.SLACK["cpu"], model.RECOMPUTED["cpu"], model.WORK["cpu"] = free["SLACK"], free["RECOMPUTED"], free["WORK"]
    _logit = int(free["BYTES_A_LOGIT"])


def median(values: list[float]) -> float:
    """The middle one, or the mean of both. (A script beside this one is called as the standard library's module.)"""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def main(given: argparse.Namespace) -> int:
    peaks = measured(given.measured)
    if given.fit:
        print(f"fitted: {fit(peaks)}")
    failed = False
    for name, settings in (("fitted", FITTED), ("judged", JUDGED)):
        found = judge(settings, peaks)
        print(f"{name:<44} forecast  measured   error  beyond the libraries")
        for one in found:
            sizes = f"{one.forecast / 1e9:8.2f} {one.peak / 1e9:9.2f}"
            print(f"  {one.setting!s:<42} {sizes} {one.error:+8.1%} {one.beyond:+8.1%}")
        errors = [abs(one.error) for one in found]
        lowest = min(one.error for one in found)
        print(f"  median error {median(errors):.1%}, largest {max(errors):.1%}, lowest {lowest:+.1%}")
        failed = name == "judged" and (median(errors) > MEDIAN or lowest < LOWEST)
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make_base(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["train"]:
        print(json.dumps(train(Path(sys.argv[2]), Setting(*json.loads(sys.argv[3])), Path(sys.argv[4]))))
    else:
        arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
        arguments.add_argument("--measured", type=Path, help="keeps what was measured")
        arguments.add_argument("--fit", action="store_true", help="fit the free numbers anew, and judge by them")
        sys.exit(main(arguments.parse_args()))
