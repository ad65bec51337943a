"""Under templates of the shapes that Llama, Mistral and Qwen models have, with a real byte-level tokenizer.

The templates are short ones of our own in those shapes: what stands around a message, whether an answer ends with a
token of its own, what a template does with the thoughts of earlier turns.
"""

from __future__ import annotations

import copy

import pytest

from tiny import tiny_tokenizer
from tunewright.data.mask import prompt_ids, prove, spans, tokenize, violations
from tunewright.parts.prompt_format import Example, Feedback, Preference
from tunewright_transformers.tokenizer import ChatTokenizer

LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% elif m['role'] == 'system' %}{{ '[SYS] ' + m['content'] + ' [/SYS]' }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' and not loop.last %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHAPES = {
    "llama": (LLAMA, "<|begin_of_text|>", "<|eot_id|>"),
    "mistral": (MISTRAL, "<s>", "</s>"),
    "qwen": (QWEN, None, "<|im_end|>"),
    "qwen thinking": (THINKING, None, "<|im_end|>"),
}
TOKENS = [
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
]


def tokenizer_of(shape):
    template, bos, eos = SHAPES[shape]
    native = copy.deepcopy(tiny_tokenizer())
    native.add_special_tokens({"additional_special_tokens": TOKENS})
    native.chat_template, native.eos_token, native.bos_token = template, eos, bos
    if bos:
        from tokenizers.processors import TemplateProcessing

        stands = (bos, native.convert_tokens_to_ids(bos))
        native.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[stands])
    return ChatTokenizer(native, frozenset({native.convert_tokens_to_ids(eos)}))


@pytest.fixture(params=list(SHAPES))
def tokenizer(request):
    return tokenizer_of(request.param)


SYSTEM = {"role": "system", "content": "Answer with one word."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


QUESTIONS = ["where is my parcel?", "the card was declined – “why”", "tabs\tand\n\nlines", "naïve café 🙂"]


def examples():
    for text in QUESTIONS:
        yield Example([SYSTEM, user(text)], [assistant("delivery_status")])
        yield Example([user(text)], [assistant("billing"), user("and now?"), assistant("an answer, of\ntwo lines")])
        yield Example([user(text), assistant("billing"), user("and?")], [assistant("account_access")])
        yield Example(f"{text} →", " billing")
        yield Example("", text)
        yield Preference([SYSTEM, user(text)], [assistant("billing")], [assistant("delivery_status")])
        yield Preference(f"{text} →", " billing", " delivery_status")
        yield Feedback([user(text)], [assistant("billing")], False)


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: type(example).__name__)
def test_rows_of_every_kind_are_proven(tokenizer, example):
    prove([tokenize("1", "o:1", example, tokenizer)], [example], tokenizer, 200)


def test_of_several_turns_exactly_the_answers_are_learnt(tokenizer):
    example = Example([SYSTEM, user("parcel?")], [assistant("delivery"), user("card?"), assistant("billing")])
    row = tokenize("1", "o:1", example, tokenizer)
    text = "".join(span.text if span.supervised else "·" for span in spans(row, tokenizer))
    learnt = [part.strip() for part in text.split("·") if part]
    end = tokenizer.native.eos_token
    assert learnt == [f"delivery{end}", f"billing{end}"]


def test_plain_text_begins_as_the_tokenizer_begins_it_and_ends_with_its_end(tokenizer):
    row = tokenize("1", "o:1", Example("", "my parcel"), tokenizer)
    bos = tokenizer.native.bos_token
    assert tokenizer.decode(row.ids, special=True) == f"{bos or ''}my parcel{tokenizer.native.eos_token}"


def test_no_token_joins_a_prompt_and_its_completion():
    """`a` and `nswer` are one token of a text, and two where the prompt ends between them."""
    tokenizer = tokenizer_of("qwen")
    prompt, completion = "you are a helpful a", "ssistant"
    together = tokenizer.encode(prompt + completion)
    given = prompt_ids(prompt, tokenizer)
    assert together[: len(given)] != given
    example = Example(prompt, completion)
    row = tokenize("1", "o:1", example, tokenizer)
    assert row.ids[: len(given)] == given
    prove([row], [example], tokenizer, 100)
    joined = type(row)(
        "1", "o:1", [*together, tokenizer.end], [-100] * (len(given) - 1) + together[len(given) - 1 :] + [tokenizer.end]
    )
    assert "differs from the prompt" in " ".join(violations(joined, example, tokenizer, 100))


def test_thoughts_of_earlier_answers_that_a_template_drops_are_not_learnt_by_halves():
    tokenizer = tokenizer_of("qwen thinking")
    turns = [
        user("parcel?"),
        assistant("<think>hm</think>delivery"),
        user("card?"),
        assistant("<think>so</think>billing"),
    ]
    every, last = Example(turns[:1], turns[1:]), Example(turns[:3], turns[3:])
    said = " ".join(violations(tokenize("1", "o:1", every, tokenizer), every, tokenizer, 200))
    assert said.startswith("answer 1 of 2: the supervised text is 'delivery'") and "use `learn: last`" in said
    prove([tokenize("1", "o:1", last, tokenizer)], [last], tokenizer, 200)
