"""What every project needs and no library brings: the chat format, held-out evaluation, threshold gates."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "prompt_format/chat": "tunewright_basics.chat:Chat",
        "evaluator/heldout": "tunewright_basics.heldout:Heldout",
        "gate/threshold": "tunewright_basics.threshold:Threshold",
    }
