"""What every trainer of this plugin has in common: the options of transformers' training loop, and what is fixed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from pydantic_core import PydanticCustomError

from tunewright.parts.base import Json, To
from tunewright.parts.trainer import TrainerOptions

Schedule = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial", "cosine_with_restarts"
]
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit",
    "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit", "adafactor", "sgd",
]  # fmt: skip


class LoopOptions(TrainerOptions):
    """The options of a training loop, whatever its loss."""

    epochs: Annotated[
        PositiveFloat,
        To("num_train_epochs"),
        Field(description="Passes over the training rows; a fraction stops early."),
    ] = 1.0
    max_steps: Annotated[
        PositiveInt | Literal[-1],
        To("max_steps"),
        Field(description="Optimizer steps, where `epochs` is not written; -1 goes by `epochs`."),
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
        PositiveFloat | None,
        Field(description="Peak learning rate of the schedule; by default chosen by the method, as `plan` shows."),
    ] = None
    loraplus_lr_ratio: Annotated[
        PositiveFloat | None,
        Field(description="LoRA+: how many times the learning rate LoRA's B learns with; 16 is usual."),
    ] = None
    schedule: Annotated[
        Schedule, To("lr_scheduler_type"), Field(description="Course of the learning rate after the warm-up.")
    ] = "linear"
    warmup_steps: Annotated[
        int | float,
        To("warmup_steps"),
        Field(ge=0, description="Steps of linear rise to the peak; below 1, their share of all steps."),
    ] = 0
    optimizer: Annotated[
        Optimizer, To("optim"), Field(description="Optimizer, by transformers' name; its own default.")
    ] = "adamw_torch_fused"
    weight_decay: Annotated[
        NonNegativeFloat, To("weight_decay"), Field(description="AdamW's decoupled weight decay.")
    ] = 0.0
    max_grad_norm: Annotated[
        NonNegativeFloat, To("max_grad_norm"), Field(description="Gradients are clipped to this norm; 0 clips nothing.")
    ] = 1.0
    neftune_alpha: Annotated[
        PositiveFloat | None,
        To("neftune_noise_alpha"),
        Field(description="NEFTune: scale of the noise on the embeddings in training; 5 is usual."),
    ] = None
    checkpointing: Annotated[
        bool,
        To("activation_checkpointing"),
        Field(description="Recompute activations in the backward pass: less memory, about a third more time."),
    ] = False
    prefix_sharing: Annotated[
        Literal["auto", "off", "require"],
        Field(
            description="Compute what the rows of a batch begin with once: where that is exact (`auto`), never, or "
            "always, so that a training in which it would not be exact is refused (`require`)."
        ),
    ] = "auto"
    eval_every: Annotated[
        PositiveInt | None,
        Field(description="Optimizer steps between two looks at the validation rows; by default once an epoch."),
    ] = None
    patience: Annotated[
        PositiveInt | None,
        Field(description="Stop after so many looks without a lower validation loss; by default never."),
    ] = None
    keep: Annotated[
        Literal["best", "last"],
        Field(description="With validation rows: the weights of the lowest validation loss, or the last ones."),
    ] = "best"

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _written(cls, value: object) -> object:
        if value is None:  # a key without a value is a slip, not the wish for a default
            raise PydanticCustomError("float_type", "A number is needed; leave the key out for the method's own")
        return value

    @property
    def ordering(self) -> str | None:
        """How rows are brought into batches; None where nobody may choose."""
        return None


class OrderedOptions(LoopOptions):
    """Those of a trainer whose rows may come in any order."""

    order: Annotated[
        Literal["shuffle", "by_prefix"],
        Field(
            description="Rows of like lengths share a batch, drawn by chance; or rows that begin alike, so that more "
            "of a batch is computed once."
        ),
    ] = "shuffle"

    @property
    def ordering(self) -> str:
        return self.order


READ = frozenset({
    "learning_rate", "loraplus_lr_ratio", "prefix_sharing", "eval_every", "patience", "keep", "args",
})  # fmt: skip
"""The options that our own code reads; every other one goes to the library."""

ORDERED: dict[str, tuple[Json, Json]] = {"order": ("shuffle", "by_prefix")}

VARY: dict[str, tuple[Json, Json]] = {
    "learning_rate": (0.05, 0.2),
    "loraplus_lr_ratio": (2.0, 16.0),
    "prefix_sharing": ("auto", "off"),
    "eval_every": (1, 2),
    "patience": (1, 9),
    "keep": ("best", "last"),
    "args": ({}, {"adam_beta1": 0.5}),
}
"""For the conformance kit: values of the options of our own that make a difference."""

FIXED: dict[str, Json] = {
    # the rows are proven tokens: cut again they would be other rows
    "max_length": None,
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
    "prediction_loss_only": True,  # logits of the validation rows would fill the memory, and nothing reads them
    # the tokens are in memory already, and worker processes would draw seeds of their own
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
    "dataloader_drop_last": False,  # every row is trained on in every epoch
    "auto_find_batch_size": False,  # a smaller batch than asked for is another training
}

REFERENCE: dict[str, Json] = {
    **FIXED,
    "precompute_ref_log_probs": True,  # else TRL loads a second model for full fine-tuning
    "disable_dropout": True,  # the reference would be another one in every pass
    "sync_ref_model": False,
}
"""The same, of a trainer that holds the model to a reference."""

AT_RUN: dict[str, str] = {
    "seed": "the spec's seed",
    "data_seed": "the spec's seed",
    "output_dir": "the step's scratch folder",
    "use_cpu": "where the loader put the model",
}
