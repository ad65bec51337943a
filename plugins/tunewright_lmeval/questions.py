"""What stands in a task's requests, before any model is known: the items, and what greedy decoding cannot ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.parts.evaluator import Item
from tunewright.parts.prompt_format import Text
from tunewright_lmeval.conversation import shown

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm_eval's names for the longest answer, the first that is there counts."""
KNOWN = frozenset({*LENGTHS, "until", "do_sample", "temperature", "top_p", "top_k"})
"""What a task may say of generation: the last two change nothing where the likeliest token is always taken."""


def origin_of(task: str, document: int) -> str:
    """What messages call a document."""
    return f"task {task}, document {document}"


def item_id(request: Any) -> str:
    """`<task>:<document>`, by the document's place in the task's test split."""
    return f"{request.task_name}:{request.doc_id}"


def item_of(task: Any, requests: Sequence[Any]) -> Item:
    """A document as an item, from its requests."""
    first = requests[0]
    name = item_id(first)
    origin = origin_of(first.task_name, first.doc_id)
    if first.request_type == "loglikelihood_rolling":
        return Item(name, origin, "", str(first.args[0]), task=first.task_name)
    choices = _choices(task, first.doc)
    return Item(
        name,
        origin,
        _prompt(requests),
        _reference(task, first.doc, choices),
        choices=choices,
        task=first.task_name,
        own=_own(task, first.doc, choices),
    )


def _choices(task: Any, doc: Any) -> tuple[str, ...]:
    """The answers to choose from; where the choices stand in the question, its versions."""
    config = getattr(task, "config", None)
    if config is None or config.doc_to_choice is None:
        return ()
    return tuple(map(str, task.doc_to_choice(doc)))


def _prompt(requests: Sequence[Any]) -> Text:
    """The question; where the choices stand in it, all its versions. What is asked without one is no question."""
    contexts = list(dict.fromkeys(request.args[0] for request in requests if request.args[0]))
    return shown(contexts[0]) if len(contexts) == 1 else "\n".join(map(str, contexts))


def _own(task: Any, doc: Any, choices: Sequence[str]) -> str:
    """The document's own text: the prompt without the task's description and the examples, which are others for each
    document and so are nothing that its prompts have in common."""
    return "\n".join(choices) if getattr(task, "multiple_input", 0) else str(task.doc_to_text(doc))


def _reference(task: Any, doc: Any, choices: Sequence[str]) -> str:
    """The right answer, as text; of several right ones the first."""
    # where the choices stand in the question, the target is what follows, and what is asked for is the choice
    target = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else task.doc_to_target(doc)
    if isinstance(target, (list, tuple)):
        target = target[0] if target else ""
    if isinstance(target, int) and 0 <= target < len(choices):
        target = choices[target]
    return str(target)


def longest_of(generation: Mapping[str, Any]) -> int | None:
    """The longest answer that a task asks for, in tokens."""
    said = next((generation[name] for name in LENGTHS if generation.get(name) is not None), None)
    return None if said is None else int(said)


def ungreedy(request: Any) -> str:
    """Why one greedy answer is not what a request asks for; empty where it is."""
    if (request.repeats or 1) > 1:
        return f"it asks each question {request.repeats} times"
    if request.request_type != "generate_until":
        return ""
    generation = request.args[1]
    drawn, temperature = generation.get("do_sample"), float(generation.get("temperature") or 0)
    if drawn or (drawn is None and temperature > 0):
        return f"it draws its answers (`do_sample`, temperature {temperature:g})"
    unknown = sorted(generation.keys() - KNOWN)
    return f"it sets `{unknown[0]}` for generation" if unknown else ""
