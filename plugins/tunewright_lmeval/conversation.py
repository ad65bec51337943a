"""A prompt that lm_eval carries around as text, and that remembers the messages which it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.parts.loader import Message, Tokenizer
from tunewright.parts.prompt_format import Text


class Conversation(str):
    """The rendered text, with its messages. `begun` where the last message is an answer that the model goes on with."""

    messages: list[Message]
    begun: bool

    @classmethod
    def of(cls, text: str, messages: Sequence[Message], *, begun: bool) -> Conversation:
        made = cls(text)
        made.messages, made.begun = [dict(message) for message in messages], begun
        return made


def shown(context: str) -> Text:
    """What a person, and a search for rows that were trained on, see of a prompt."""
    return context.messages if isinstance(context, Conversation) else str(context)


def unrendered(messages: Sequence[Message], add_generation_prompt: bool = True) -> Conversation:
    """A conversation before any model is known, and so any template."""
    text = "\n".join(message["content"] for message in messages)
    return Conversation.of(text, messages, begun=not add_generation_prompt)


def rendered(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = True) -> Conversation:
    """The conversation by the model's own template, up to where the answer starts or goes on."""
    text = tokenizer.render(messages, generation_prompt=add_generation_prompt)
    if not add_generation_prompt:
        last = messages[-1]["content"].strip()
        text = text[: text.rindex(last) + len(last)]
    return Conversation.of(text, messages, begun=not add_generation_prompt)
