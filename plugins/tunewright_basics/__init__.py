"""What every project needs and no library brings: formats of rows, held-out evaluation, threshold gates."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "prompt_format/alpaca": "tunewright_basics.alpaca:Alpaca",
        "prompt_format/chat": "tunewright_basics.chat:Chat",
        "prompt_format/completion": "tunewright_basics.completion:Completion",
        "prompt_format/feedback": "tunewright_basics.feedback:Feedbacks",
        "prompt_format/openai": "tunewright_basics.openai:Openai",
        "prompt_format/preference": "tunewright_basics.preference:Preferences",
        "prompt_format/sharegpt": "tunewright_basics.sharegpt:Sharegpt",
        "prompt_format/text": "tunewright_basics.text:PlainText",
        "prompt_format/ultrafeedback": "tunewright_basics.ultrafeedback:Ultrafeedback",
        "prompt_format/unpaired": "tunewright_basics.unpaired:Unpaired",
        "evaluator/choice": "tunewright_basics.choice:Choice",
        "evaluator/heldout": "tunewright_basics.heldout:Heldout",
        "evaluator/perplexity": "tunewright_basics.perplexity:Perplexity",
        "evaluator/preferred": "tunewright_basics.preferred:Preferred",
        "gate/better_than": "tunewright_basics.better_than:BetterThan",
        "gate/no_contamination": "tunewright_basics.no_contamination:NoContamination",
        "gate/non_inferior": "tunewright_basics.non_inferior:NonInferior",
        "gate/threshold": "tunewright_basics.threshold:Threshold",
    }
