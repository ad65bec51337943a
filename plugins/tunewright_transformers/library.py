"""The one place that imports transformers: offline, silent, and with the extra named where it is not installed."""

from __future__ import annotations

import os
import warnings
from types import ModuleType

from tunewright.errors import MissingExtra

# Set, not defaulted: nothing is fetched unless the spec names it. bitsandbytes fetches native code at import where
# `kernels` is installed, peft looks bases up at every save, trl reports each trainer: all of them obey these.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def library() -> ModuleType:
    """transformers, which after this neither asks the network nor prints bars. Raises `MissingExtra`."""
    os.environ.update(OFFLINE)
    import contextlib
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # at import it tells of kernels that it would fetch
    with contextlib.suppress(ImportError):  # peft imports gptqmodel wherever it is installed, which writes to stdout
        from logbar import LogBar

        LogBar.shared().setLevel(logging.CRITICAL)
    try:
        import torch  # noqa: F401  transformers imports without it and fails later, with another message
        import transformers
        from huggingface_hub import constants
    except ImportError as error:
        raise MissingExtra("loader/transformers", "train", error) from error
    constants.HF_HUB_OFFLINE = True  # the environment is read once, and another import may have been first
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # what these libraries will rename in a later release is for us to follow, not for a user to read
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    return transformers
