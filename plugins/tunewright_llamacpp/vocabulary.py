"""A tokenizer, written so that llama.cpp cuts every text into the tokens that the model was trained on.

llama.cpp knows how texts are cut into words by a name alone, `tokenizer.ggml.pre`. Its own converter finds the name by
a digest of how a sample text is tokenized; here it follows from the rules that the tokenizer itself holds, so that a
vocabulary that grew in training has the same name, and rules that llama.cpp does not have are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.errors import Refused
from tunewright.parts.loader import Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's kinds of tokens."""
ENDS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "</s>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>",
    "<eos>",
})  # fmt: skip
"""Texts of tokens at which llama.cpp ends an answer whatever else is in the file."""

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES, WORDS, DIGITS = "bytes", "bytes of GPT-2's words", "single digits"
CUTS: Mapping[tuple[tuple[str, ...], bool], str] = {
    ((WORDS,), False): "gpt-2",
    ((DIGITS, WORDS), False): "smollm",
    ((_QWEN2, BYTES), False): "qwen2",
    ((_LLAMA3, BYTES), True): "llama-bpe",
    ((_TEKKEN, BYTES), True): "tekken",
}
"""By the steps of cutting a text, and whether a word that is a token is taken whole: llama.cpp's name of it."""


def write(writer: Any, tokenizer: Tokenizer, size: int) -> None:
    """Everything of the tokenizer that a GGUF holds; `size` is the number of rows of the model's embeddings.

    Raises `Refused` where llama.cpp would tokenize, begin or end otherwise than the model was trained.
    """
    native = tokenizer.native
    rules = _rules(native)
    tokens, kinds = _tokens(native, size)
    writer.add_tokenizer_model("gpt2")  # llama.cpp's word for byte-level BPE
    writer.add_tokenizer_pre(pre_type(rules))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(_merges(rules["model"]["merges"]))
    writer.add_add_space_prefix(False)
    _write_ends(writer, tokenizer, tokens)
    if tokenizer.template:
        writer.add_chat_template(tokenizer.template)


def pre_type(rules: Mapping[str, Any]) -> str:
    """llama.cpp's name of how a tokenizer, given as its tokenizer.json, cuts texts. Raises `Refused` for others."""
    model = rules.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _unknown("it is not a byte-level BPE")
    normalizer = rules.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":  # which llama.cpp leaves out, for Qwen as well
        raise _unknown(f"it normalizes texts by {normalizer.get('type')}")
    steps = tuple(_steps(rules.get("pre_tokenizer") or {}))
    found = CUTS.get((steps, bool(model.get("ignore_merges"))))
    if found is None:
        raise _unknown(f"it cuts texts by: {'; '.join(steps) or 'nothing'}")
    return found


def _unknown(why: str) -> Refused:
    return Refused(
        f"llama.cpp has no tokenizer that is known to be this one: {why}; another would give the model other tokens",
        fix="export it as `merged`, and serve it by an engine that reads its own tokenizer",
    )


def _steps(cut: Mapping[str, Any]) -> Iterator[str]:
    """The steps of a pre-tokenizer, each as a word or its expression."""
    kind = cut.get("type")
    if kind == "Sequence":
        for inner in cut["pretokenizers"]:
            yield from _steps(inner)
    elif kind == "ByteLevel" and not cut.get("add_prefix_space"):
        yield WORDS if cut.get("use_regex", True) else BYTES
    elif kind == "Digits" and cut.get("individual_digits"):
        yield DIGITS
    elif kind == "Split" and cut.get("behavior") == "Isolated" and not cut.get("invert"):
        yield str(cut["pattern"].get("Regex", cut["pattern"]))
    elif kind is not None:
        yield f"{kind} {json.dumps(cut, sort_keys=True)}"


def _rules(native: Any) -> dict[str, Any]:
    backend = getattr(native, "backend_tokenizer", None)
    if backend is None:
        raise _unknown("it has no tokenizer.json")
    return dict(json.loads(backend.to_str()))


def _tokens(native: Any, size: int) -> tuple[list[str], list[int]]:
    """Each token's text, and its kind; rows of the embeddings that no token has are called `[PAD<id>]`."""
    tokens, kinds = [f"[PAD{place}]" for place in range(size)], [UNUSED] * size
    added = native.added_tokens_decoder
    for text, place in native.get_vocab().items():
        if place >= size:
            raise Refused(f"the token {text!r} has id {place}, and the model's embeddings {size} rows",
                          fix="the tokenizer is another model's: fetch the base again")  # fmt: skip
        tokens[place], kinds[place] = text, NORMAL
    for place, token in added.items():
        if token.lstrip or token.rstrip or token.single_word:
            raise _unknown(f"{token.content!r} takes spaces or word borders beside it")
        kinds[place] = CONTROL if token.special else USER_DEFINED
    if len(set(tokens)) != size:
        raise Refused("two tokens of the tokenizer have one text, which a GGUF cannot hold", fix="export `merged`")
    return tokens, kinds


def _merges(merges: list[Any]) -> list[str]:
    """As `a b`, whether tokenizer.json writes them so or as pairs."""
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]


def _write_ends(writer: Any, tokenizer: Tokenizer, tokens: list[str]) -> None:
    """BOS, EOS and what else ends an answer. llama.cpp has room for three, and knows some by their text."""
    native, begin = tokenizer.native, tokenizer.begin
    if begin not in ([], [native.bos_token_id]):
        raise Refused(f"a text begins with the tokens {begin}, where llama.cpp puts BOS or nothing",
                      fix="export `merged`")  # fmt: skip
    if native.bos_token_id is None and "bos_token" in tokenizer.template:
        raise Refused("the chat template names `bos_token`, and the tokenizer has none: llama.cpp puts another",
                      fix="give the tokenizer a `bos_token`, or take it out of the template")  # fmt: skip
    writer.add_add_bos_token(bool(begin))
    writer.add_add_eos_token(False)
    if native.bos_token_id is not None:
        writer.add_bos_token_id(native.bos_token_id)
    if native.pad_token_id is not None:
        writer.add_pad_token_id(native.pad_token_id)
    if native.unk_token_id is not None:
        writer.add_unk_token_id(native.unk_token_id)
    eos = tokenizer.end if tokenizer.end in tokenizer.stops else min(tokenizer.stops)
    writer.add_eos_token_id(eos)
    more = [stop for stop in sorted(tokenizer.stops - {eos}) if tokens[stop] not in ENDS]
    for stop, add in zip(more, (writer.add_eot_token_id, writer.add_eom_token_id), strict=False):
        add(stop)
    if len(more) > 2:
        texts = ", ".join(repr(tokens[stop]) for stop in more[2:])
        raise Refused(f"answers end at more tokens than a GGUF can name: {texts}", fix="export `merged`")
