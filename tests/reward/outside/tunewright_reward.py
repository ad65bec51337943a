"""`reward`: TRL's RewardTrainer on proven pairs. An answer's reward is the logit of the end token after it."""

from types import SimpleNamespace

from tunewright import hookimpl
from tunewright.digest import digest_json
from tunewright.errors import WorkFailed
from tunewright.parts.trainer import Trainer, TrainerOptions, TrainOutcome


@hookimpl
def tunewright_backends():
    return {"trainer/reward": "tunewright_reward:Reward"}


class RewardOptions(TrainerOptions):
    kind: str = "reward"


class Reward(Trainer[RewardOptions]):
    kind, Options, consumes, libraries = "reward", RewardOptions, ("preference",), ("trl", "transformers", "torch")
    accepts, reads, vary = "trl:RewardConfig", {"args"}, {"args": ({}, {"learning_rate": 0.05})}
    fixed = {"max_length": None, "remove_unused_columns": False, "activation_checkpointing": False, "bf16": False,
             "logging_steps": 1, "logging_nan_inf_filter": False, "save_strategy": "no", "report_to": []}  # fmt: skip
    at_run = {"output_dir": "the step's scratch folder", "seed": "the spec's seed", "use_cpu": "where the model is"}

    def train(self, job):
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer
        from trl.trainer.reward_trainer import DataCollatorForPreference

        order, losses, end = [], [], job.tokenizer.end

        class Scored(RewardTrainer):
            def compute_loss(self, model, inputs, *args, **kwargs):
                order.extend(inputs.pop("row_ids"))
                at = range(len(inputs["input_ids"])), inputs["attention_mask"].sum(1) - 1, end  # [row, token, logit]
                scored = lambda **batch: SimpleNamespace(logits=model(**batch).logits[at][:, None])  # noqa: E731
                return super().compute_loss(scored, inputs, *args, **kwargs)

            def log(self, logs, start_time=None):
                if "grad_norm" in logs:
                    if not abs(logs["loss"]) < float("inf"):
                        raise WorkFailed(f"the loss is no number at {order[-8:]}", fix="lower the learning rate")
                    losses.append((self.state.global_step, logs["loss"]))
                    told = {"event": "train", "optimizer_step": len(losses), "optimizer_steps": self.state.max_steps}
                    job.emit({**told, **{k: logs[k] for k in ("loss", "learning_rate")}, "tokens_per_second": 0.0})

        if not any(row.supervised for row in job.train):
            raise WorkFailed("no pair has a token to learn from", fix="look at: tunewright data show --tokens")
        passed, pad = {k: v.value for k, v in self.arguments().items()}, DataCollatorForPreference(end)
        config = RewardConfig(**passed, output_dir=job.scratch, seed=job.seed, use_cpu=job.model.device.type == "cpu")
        sides = {f"{s}_ids": [row.prompt + getattr(row, s) for row in job.train] for s in ("chosen", "rejected")}
        data = Dataset.from_dict({**sides, "row_id": [row.row_id for row in job.train]})
        job.model.config.num_labels, tokenizer = 1, job.tokenizer.native
        collate = lambda some: {**pad(some), "row_ids": [row["row_id"] for row in some]}  # noqa: E731
        Scored(job.model, config, collate, data, processing_class=tokenizer).train()
        seen, observed = [row for row in job.train for _ in range(order.count(row.row_id))], config.to_dict()
        return TrainOutcome(len(losses), sum(row.tokens for row in seen), sum(row.supervised for row in seen),
                            digest_json(order), {k: observed[k] for k in passed}, losses=tuple(losses))  # fmt: skip
