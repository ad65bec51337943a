"""`tensorboard`: scalars in a folder, for `tensorboard --logdir`. Nothing leaves the machine.

By transformers' `TensorBoardCallback`. The names of TensorBoard's files hold this machine's name and the process's
number; that is TensorBoard's own way, and what is in the files does not.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from tunewright.parts import Options, SpecPath
from tunewright.parts.tracker import TrackedRun
from tunewright_trackers.driven import CallbackTracker, theirs


class TensorboardOptions(Options):
    """Options of scalars for TensorBoard."""

    kind: str = "tensorboard"
    dir: Annotated[
        SpecPath,
        Field(
            default="trackers/tensorboard",
            validate_default=True,
            description="Folder; each training gets one of its own in it: `<run>/<stage>`.",
        ),
    ]


class TensorboardTracker(CallbackTracker[TensorboardOptions]):
    """Writes event files; `loss` is `train/loss`, a validation's is `eval/loss`."""

    kind, library = "tensorboard", "tensorboard"
    Options: ClassVar = TensorboardOptions
    libraries = ("tensorboard",)
    reads = frozenset({"dir"})

    def callback(self, about: TrackedRun) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        callback = theirs("TensorBoardCallback")
        # a writer of ours: the callback would take its folder from TENSORBOARD_LOGGING_DIR
        callback.tb_writer = SummaryWriter(str(self.options.dir.path / about.name / about.stage))
        return callback
