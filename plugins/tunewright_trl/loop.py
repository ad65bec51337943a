"""A backend over one of TRL's trainers: what is passed to it, and one training from job to outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from tunewright.digest import digest_json
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts import Argument, Cap, Need
from tunewright.parts.base import Facts, Finding, Json, O, SetBy
from tunewright.parts.memory import Lever, Regime, Shape, Trainable
from tunewright.parts.trainer import Trainer, TrainJob, TrainOutcome
from tunewright_trl import memory
from tunewright_trl.arguments import check_arguments
from tunewright_trl.idle import idle, nothing
from tunewright_trl.options import AT_RUN, READ, VARY
from tunewright_trl.sharing import not_by_spec

if TYPE_CHECKING:
    from tunewright_trl.held import Held

TEN_TIMES = 10.0
"""An adapter's best learning rate against full fine-tuning's: about ten times, over sizes and tasks. Schulman et al.
2025, "LoRA Without Regret", https://thinkingmachines.ai/blog/lora/"""


class TrlTrainer(Trainer[O]):
    """What the backends of this plugin share. `held` names the class of `held.py`, `rate` is the learning rate of full
    fine-tuning."""

    extra: ClassVar[str] = "train"
    libraries: ClassVar[tuple[str, ...]] = ("trl", "transformers", "accelerate", "torch", "bitsandbytes", "peft")
    reads: ClassVar[frozenset[str]] = READ
    at_run: ClassVar[dict[str, str]] = AT_RUN
    vary: ClassVar[dict[str, tuple[Json, Json]]] = VARY
    held: ClassVar[str]
    sequences: ClassVar[int] = 1
    """What a row is computed as."""
    rate: ClassVar[float]
    rate_from: ClassVar[str]

    def needs(self) -> Iterable[Need]:
        if self.options.loraplus_lr_ratio is not None:
            yield Need("adapter", Cap.LORA, "needs-lora", "leave `loraplus_lr_ratio` out")

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Arguments that TRL would take and not use, that are set elsewhere, or that it does not have; options that
        do nothing beside others, or need validation rows where there are none."""
        named = type(self)(self.Options(kind=self.kind)).arguments()  # by options and `fixed`: the core refuses these
        yield from check_arguments(self.options.args, self.accepts.partition(":")[2], named)
        yield from idle(self.options)
        if self.options.prefix_sharing == "require" and (why := not_by_spec(self.options, facts)):
            message = f"rows cannot share what they begin with: {why}"
            yield Finding("cannot-share", message, "prefix_sharing", "take `auto`, which then computes each row whole")
        if self.options.ordering == "by_prefix" and self.shares(facts) is None:
            why = not_by_spec(self.options, facts) or "`prefix_sharing` is off"
            yield nothing("order", f"where rows share nothing: {why}", "take `shuffle`", option=True)
        if not facts.validation:
            for name in ("eval_every", "patience", "keep"):
                if name in self.options.model_fields_set:
                    message = f"`{name}` looks at validation rows, and this training has none"
                    yield Finding("needs-validation", message, name, "add `validation:` to its data", at_key=True)

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """The learning rate, by the method where the spec gives none; when the validation rows are looked at."""
        found = {"learning_rate": self._rate(Cap.ADAPTS in facts.offers.get("adapter", ()))}
        if not facts.validation:
            return {**found, "eval_strategy": Argument("no", "tunewright")}
        every, field = self.options.eval_every, "eval_every"
        found["per_device_eval_batch_size"] = Argument(self.options.batch_size, "tunewright", "batch_size")
        if every is None:
            return {**found, "eval_strategy": Argument("epoch", "tunewright")}
        return {
            **found, "eval_strategy": Argument("steps", "spec", field), "eval_steps": Argument(every, "spec", field)
        }  # fmt: skip

    def regime(self, shape: Shape, trained: Trainable, device: str, facts: Facts) -> Regime:
        """What TRL, the optimizer, our layers and our LM head keep. On a GPU layers and head are TRL's own."""
        told = memory.regime(self.options, self.sequences, shape, trained, device, facts.validation)
        if device != "cpu" or not_by_spec(self.options, facts):
            return told
        return told._replace(lean=True, shares=self.options.prefix_sharing != "off")

    def levers(self) -> Iterable[Lever]:
        """Smaller batches that are accumulated, an 8-bit optimizer, checkpointing."""
        return memory.levers(self.options, self.sequences > 1)

    def decide(self, facts: Facts) -> dict[str, Argument]:
        """Whether rows share what they begin with, as far as the spec shows it."""
        wanted, name = self.options.prefix_sharing, "prefix_sharing"
        why = not_by_spec(self.options, facts)
        if why and wanted == "auto":
            return {name: Argument("off", "tunewright", name, why)}
        set_by: SetBy = "spec" if name in self.options.model_fields_set else "tunewright"
        return {name: Argument(wanted, set_by, name)}

    def shares(self, facts: Facts) -> str | None:
        """Whether a batch's beginnings are computed once, as far as the spec shows it."""
        if self.decide(facts)["prefix_sharing"].value == "off":
            return None
        return "`order: by_prefix`" if self.options.ordering == "shuffle" else ""

    def _rate(self, adapts: bool) -> Argument:
        written = self.options.learning_rate
        if written is not None:
            return Argument(written, "spec", "learning_rate")
        if adapts:
            why = f"ten times full fine-tuning's {self.rate:g} (LoRA Without Regret, 2025)"
            return Argument(self.rate * TEN_TIMES, "tunewright", "learning_rate", why)
        return Argument(self.rate, "tunewright", "learning_rate", self.rate_from)

    def train(self, job: TrainJob) -> TrainOutcome:
        """Train `job.model` in place, on `job.train` alone.

        Raises `WorkFailed` with row ids where the loss or the gradient is no number, and with the reason where the
        weights cannot have learnt: nothing supervised, a learning rate of zero, no gradient, weights unchanged.
        """
        from tunewright_trl.around import preserved, quiet
        from tunewright_trl.watch import names

        with quiet():
            if not any(row.supervised for row in job.train):
                message = f"no token bears a loss in {names([row.row_id for row in job.train])}"
                raise WorkFailed(message, fix="look at: tunewright data show --tokens")
            if not any(parameter.requires_grad for parameter in job.model.parameters()):
                raise WorkFailed("no weight of the model is to be trained", fix="check the adapter's targets")
            with preserved(job.model, job.tokenizer.native):
                return self._train(job)

    def _train(self, job: TrainJob) -> TrainOutcome:
        from tunewright_trl.observed import found_in, observed, substituted
        from tunewright_trl.watch import Watch, state_of

        before, found = state_of(job.model, job.train), found_in(job.model)
        watch = Watch(job, self.options)
        trainer = self._trainer(job, watch)
        try:
            _run(trainer, job)
            if watch.stopped:
                return TrainOutcome(trainer.state.global_step, watch.tokens, watch.supervised, "", {}, stopped=True)
            if self.options.keep == "best":
                watch.put_best_back(job.model)
            watch.conclude(before, state_of(job.model, job.train))
            return TrainOutcome(
                steps=trainer.state.global_step,
                tokens=watch.tokens,
                supervised=watch.supervised,
                row_order=digest_json(watch.order),
                observed=observed(trainer.args, self._passed(job)),
                substituted=substituted(self._passed(job), trainer, found),
                losses=tuple(watch.losses),
                best_step=watch.best_step if self.options.keep == "best" else None,
                validation=tuple(watch.validation),
            )
        finally:
            release(trainer)

    def _trainer(self, job: TrainJob, watch: Any) -> Held:
        """TRL's trainer over the job's rows. Raises `BadInput` where TRL refuses what it is given."""
        from tunewright_trl import held

        config, made = self._config(job), getattr(held, self.held)
        try:
            trainer: Held = made(job.model, config, job.tokenizer.native, job.train, job.validation, watch)
        except (NotImplementedError, ValueError) as error:  # arguments, or adapted modules, that do not go together
            raise BadInput(f"TRL refuses this training: {error}", fix="correct `trainer`, or the adapter") from error
        return trainer

    def _passed(self, job: TrainJob) -> dict[str, Argument]:
        """Every argument of the plan: from options alone, then what depends on the spec's other parts."""
        return {**self.arguments(), **job.derived}

    def _config(self, job: TrainJob) -> Any:
        """TRL's config: the arguments of the plan, and what only the job knows."""
        import trl

        arguments: dict[str, Json] = {name: argument.value for name, argument in self._passed(job).items()}
        try:
            config = getattr(trl, self.accepts.partition(":")[2])(
                **arguments,
                output_dir=str(job.scratch),
                seed=job.seed,
                data_seed=job.seed,
                use_cpu=job.model.device.type == "cpu",  # the loader chose the device, the trainer stays on it
            )
        except (TypeError, ValueError) as error:
            raise BadInput(f"TRL refuses the trainer's arguments: {error}", fix="correct `trainer.args`") from error
        config._n_gpu = min(config.n_gpu, 1)  # TRL refuses transformers' DataParallel over all GPUs that it sees
        return config


def _run(trainer: Held, job: TrainJob) -> None:
    """Train with the LM head at supervised positions only, and say at how many it ran, or why it ran at TRL's."""
    fused = trainer.fuse()
    try:
        trainer.train(resume_from_checkpoint=None if job.resume is None else str(job.resume.folder))
    except OSError as error:
        if job.resume is None:
            raise
        raise Refused(f"the checkpoint {job.resume.folder.name} cannot be read: {error}") from error
    finally:
        fused.uninstall()
    job.emit({"event": "lm_head", "scored": fused.scored, "of": fused.padded, "left_alone": fused.left_alone})
    shared = {"computed": fused.computed, "of": fused.given, "unshared": fused.unshared}
    job.emit({"event": "prefixes", **shared, "attention": fused.attention, "not_flex": fused.not_flex})
    job.emit({"event": "layers", "liger": fused.by_liger, "not_liger": fused.not_liger})


def release(trainer: Held) -> None:
    """Give the optimizer's memory back before the model goes on to be saved and evaluated."""
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
    trainer.accelerator.free_memory()  # drops its own references, collects, empties the device's cache
