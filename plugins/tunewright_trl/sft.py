"""Supervised fine-tuning with TRL's SFTTrainer. The library's classes are imported when a training starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from tunewright.digest import digest_json
from tunewright.errors import BadInput, WorkFailed
from tunewright.parts.base import Facts, Finding, Json, To
from tunewright.parts.trainer import Trainer, TrainerOptions, TrainJob, TrainOutcome
from tunewright_trl.arguments import check_arguments

if TYPE_CHECKING:
    from tunewright_trl.trainer import WatchedTrainer

Schedule = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial", "cosine_with_restarts"
]
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "adafactor", "sgd"
]


class SftOptions(TrainerOptions):
    """`{kind: sft, epochs: 2, batch_size: 16, learning_rate: 2.0e-4}`."""

    kind: str = "sft"
    epochs: Annotated[
        PositiveFloat,
        To("num_train_epochs"),
        Field(description="Passes over the training rows; a fraction stops early."),
    ] = 1.0
    max_steps: Annotated[
        PositiveInt | Literal[-1],
        To("max_steps"),
        Field(description="Optimizer steps, in place of `epochs`; -1 goes by `epochs`."),
    ] = -1
    batch_size: Annotated[
        PositiveInt, To("per_device_train_batch_size"), Field(description="Rows that are computed at once on a device.")
    ] = 8
    accumulation: Annotated[
        PositiveInt,
        To("gradient_accumulation_steps"),
        Field(description="Batches that make one optimizer step: a larger batch in the memory of a small one."),
    ] = 1
    learning_rate: Annotated[
        PositiveFloat, To("learning_rate"), Field(description="Peak learning rate of the schedule.")
    ] = 2e-4
    schedule: Annotated[
        Schedule, To("lr_scheduler_type"), Field(description="Course of the learning rate after the warm-up.")
    ] = "linear"
    warmup_steps: Annotated[
        int | float,
        To("warmup_steps"),
        Field(ge=0, description="Steps of linear rise to the peak; below 1, their share of all steps."),
    ] = 0
    optimizer: Annotated[Optimizer, To("optim"), Field(description="Optimizer, by transformers' name.")] = "adamw_torch"
    weight_decay: Annotated[
        NonNegativeFloat, To("weight_decay"), Field(description="AdamW's decoupled weight decay.")
    ] = 0.0
    max_grad_norm: Annotated[
        NonNegativeFloat, To("max_grad_norm"), Field(description="Gradients are clipped to this norm; 0 clips nothing.")
    ] = 1.0
    checkpointing: Annotated[
        bool,
        To("activation_checkpointing"),
        Field(description="Recompute activations in the backward pass: less memory, about a third more time."),
    ] = False


class Sft(Trainer[SftOptions]):
    """Trains on the supervised tokens of each row by their negative log-likelihood."""

    kind: ClassVar[str] = "sft"
    Options: ClassVar[type[SftOptions]] = SftOptions
    consumes = "messages"
    extra: ClassVar[str] = "train"
    libraries: ClassVar[tuple[str, ...]] = ("trl", "transformers", "accelerate", "torch", "bitsandbytes", "peft")
    accepts: ClassVar[str] = "trl:SFTConfig"
    fixed: ClassVar[dict[str, Json]] = {
        # the rows are proven tokens: prepared, cut, packed or masked again they would be other rows
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "packing": False,
        "remove_unused_columns": False,  # the rows' names must reach the collator
        # autocast would choose a precision for each operation; the weights' own dtypes rule
        "bf16": False,
        "fp16": False,
        # one number a step, as it is: a NaN must be seen, not replaced by the mean of the losses before it
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        # the run keeps and publishes, not the library
        "save_strategy": "no",
        "push_to_hub": False,
        "load_best_model_at_end": False,
        "report_to": [],
        "disable_tqdm": True,
        "eval_strategy": "no",  # evaluation is a step of its own
        # the tokens are in memory already, and worker processes would draw seeds of their own
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "dataloader_drop_last": False,  # every row is trained on in every epoch
        "auto_find_batch_size": False,  # a smaller batch than asked for is another training
    }

    at_run: ClassVar[dict[str, str]] = {
        "seed": "the spec's seed",
        "data_seed": "the spec's seed",
        "output_dir": "the step's scratch folder",
        "use_cpu": "where the loader put the model",
    }

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Arguments that TRL would take and not use, that are set elsewhere, or that it does not have."""
        named = type(self)(self.Options(kind=self.kind)).arguments()  # by options and `fixed`: the core refuses these
        return check_arguments(self.options.args, named)

    def train(self, job: TrainJob) -> TrainOutcome:
        """Train `job.model` in place, on `job.train` alone.

        Raises `WorkFailed` with row ids where the loss or the gradient is no number, and with the reason where the
        weights cannot have learnt: nothing supervised, a learning rate of zero, no gradient, weights unchanged.
        """
        from tunewright_trl.around import preserved, quiet

        with quiet():
            from tunewright_trl.watch import supervised

            if not any(map(supervised, job.train)):
                raise WorkFailed("no row has a supervised token", fix="look at: tunewright data show --tokens")
            with preserved(job.model, job.tokenizer.native):
                return self._train(job)

    def _train(self, job: TrainJob) -> TrainOutcome:
        from tunewright_trl.observed import dtypes, observed, substituted
        from tunewright_trl.trainer import WatchedTrainer
        from tunewright_trl.watch import Watch, fingerprint

        before, dtypes_before = fingerprint(job.model), dtypes(job.model)
        watch = Watch(job.train, job.emit)
        trainer = WatchedTrainer(job.model, self._config(job), job.tokenizer.native, job.train, watch)
        try:
            _run(trainer, job)
            watch.conclude(before, fingerprint(job.model))
            return TrainOutcome(
                steps=trainer.state.global_step,
                tokens=watch.tokens,
                supervised=watch.supervised,
                row_order=digest_json(watch.order),
                observed=observed(trainer.args),
                substituted=substituted(self.arguments(), trainer, dtypes_before),
                losses=tuple(watch.losses),
            )
        finally:
            _release(trainer)

    def _config(self, job: TrainJob) -> Any:
        """The arguments of the plan, and what only the job knows."""
        from trl import SFTConfig

        arguments = {name: argument.value for name, argument in self.arguments().items()}
        try:
            config = SFTConfig(
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


def _run(trainer: WatchedTrainer, job: TrainJob) -> None:
    """Train with the LM head at supervised positions only, and say at how many it ran, or why it ran at TRL's."""
    from tunewright_trl.fused import install

    fused = install(trainer.model)
    try:
        trainer.train()
    finally:
        fused.uninstall()
    job.emit({"event": "lm_head", "scored": fused.scored, "of": fused.padded, "left_alone": fused.left_alone})


def _release(trainer: WatchedTrainer) -> None:
    """Give the optimizer's memory back before the model goes on to be saved and evaluated."""
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.callback_handler.optimizer = trainer.callback_handler.lr_scheduler = None
    trainer.accelerator.free_memory()  # drops its own references, collects, empties the device's cache
