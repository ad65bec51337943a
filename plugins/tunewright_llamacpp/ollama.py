"""`ollama`: the GGUF, and the Modelfile by which Ollama takes it over: https://docs.ollama.com/modelfile

Ollama renders conversations by a template of its own, in Go. One that is written here gives what the model's own
template gives, shown on conversations of every shape; where none does, nothing is exported: without a template Ollama
hands a model the bare words, and with another one it would answer questions that it was never trained on.

Go's templates have no function that trims a text, and Ollama adds none. Where the model's own template takes away the
white space at the ends of a message, as Llama 3's does, the Modelfile says that whoever asks has to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from tunewright.errors import BadInput, Refused
from tunewright.parts.exporter import Form, Trained
from tunewright.parts.loader import Message, Tokenizer
from tunewright_llamacpp.export import GgufExporter, GgufOptions
from tunewright_llamacpp.gotemplate import LAST, RANGE, render
from tunewright_transformers.layout import LICENSES

MODELFILE = "Modelfile"
CONTEXT = 8192  # tokens: Ollama's own bound is lower, and it cuts what is longer without a word

CHATML = (
    f"{{{{ {RANGE} }}}}<|im_start|>{{{{ .Role }}}}\n{{{{ .Content }}}}<|im_end|>\n{{{{ end }}}}<|im_start|>assistant\n"
)
LLAMA3 = (
    f"{{{{ {RANGE} }}}}<|start_header_id|>{{{{ .Role }}}}<|end_header_id|>\n\n{{{{ .Content }}}}<|eot_id|>{{{{ end }}}}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
MISTRAL = (
    f'{{{{ {RANGE} }}}}{{{{ if eq .Role "user" }}}}[INST]SPACE{{{{ if and $.System ({LAST}) }}}}{{{{ $.System }}}}\n\n'
    '{{ end }}{{ .Content }}SPACE[/INST]{{ else if eq .Role "assistant" }}SPACE{{ .Content }}</s>{{ end }}{{ end }}'
)
KNOWN = {
    "ChatML": CHATML, "Llama 3": LLAMA3, "Mistral": MISTRAL.replace("SPACE", ""),
    "Mistral with spaces": MISTRAL.replace("SPACE", " "),
}  # fmt: skip
DEFAULT = "{{ if not .System }}<|im_start|>system\nWORDS<|im_end|>\n{{ end }}"
"""A system's message that ChatML's templates put where a conversation has none."""

_SYSTEM, _USER = {"role": "system", "content": "Route it."}, {"role": "user", "content": "Where is my parcel?"}
_TALK = [_USER, {"role": "assistant", "content": "delivery"}, {"role": "user", "content": "And\n\nmy card?"}]
SAMPLES: tuple[list[Message], ...] = ([_USER], [_SYSTEM, _USER], _TALK, [_SYSTEM, *_TALK])
"""Conversations of every shape that these templates tell apart."""
ENDS = (
    "# The model's own template treats white space at the ends of a message otherwise than Ollama, which passes it on",
    "# as it is. The model was trained on messages without it: take it away before you ask.",
)


class OllamaOptions(GgufOptions):
    """Options of an export for Ollama: those of `gguf`."""

    kind: str = "ollama"


class OllamaExporter(GgufExporter):
    """`ollama create NAME -f Modelfile`, in the folder, takes it over."""

    kind = "ollama"
    Options: ClassVar = OllamaOptions

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises `Refused` where no template in Go is known that renders as the model's own, or as `gguf` does."""
        template = go_template(trained.tokenizer)
        notes = () if keeps_ends(template, trained.tokenizer) else ENDS
        text = modelfile(template, stop_texts(trained.tokenizer), _licence(trained.base), notes)
        form = super().export(trained, out)
        (out / MODELFILE).write_text(text, "utf-8")
        return form


def go_template(tokenizer: Tokenizer) -> str:
    """The template in Go that renders every sample as the model's own does. Raises `Refused` where none is known."""
    for template in _candidates(tokenizer):
        if all(_same(template, sample, tokenizer) for sample in SAMPLES):
            return template
    raise Refused(
        f"the model's chat template is none that is known in Ollama's language ({', '.join(KNOWN)}): with another one "
        "the model would be asked what it was never trained on",
        fix="export `gguf`, which carries the template itself, for llama.cpp; or write Ollama's TEMPLATE yourself",
    )


def keeps_ends(template: str, tokenizer: Tokenizer) -> bool:
    """Whether a template in Go renders white space at the ends of messages as the model's own does."""
    return all(_same(template, _with_ends(sample), tokenizer) for sample in SAMPLES)


def _with_ends(sample: Sequence[Message]) -> list[Message]:
    return [{**message, "content": f" {message['content']}\n"} for message in sample]


def _candidates(tokenizer: Tokenizer) -> Iterator[str]:
    yield from KNOWN.values()
    head, tail = DEFAULT.partition("{{ end }}")[0].split("\n", 1)[0], "<|im_end|>\n"
    opening = head.removeprefix("{{ if not .System }}") + "\n"
    alone = _rendered([_USER], tokenizer) or ""
    if alone.startswith(opening) and tail in alone:
        yield DEFAULT.replace("WORDS", alone.removeprefix(opening).partition(tail)[0]) + CHATML


def _same(template: str, sample: Sequence[Message], tokenizer: Tokenizer) -> bool:
    """Whether both render alike, but for the BOS that the GGUF says to put first; a refusal is no rendering."""
    return render(template, sample) == _rendered(sample, tokenizer)


def _rendered(sample: Sequence[Message], tokenizer: Tokenizer) -> str | None:
    try:
        text = tokenizer.render(sample, generation_prompt=True)
    except BadInput:
        return None
    return text.removeprefix(tokenizer.decode(tokenizer.begin, special=True)) if tokenizer.begin else text


def stop_texts(tokenizer: Tokenizer) -> list[str]:
    """The texts at which an answer ends, as `PARAMETER stop` has them."""
    return [tokenizer.decode([stop], special=True) for stop in sorted(tokenizer.stops)]


def modelfile(template: str, stops: Sequence[str], licence: str, notes: Sequence[str] = ()) -> str:
    """The Modelfile, with comments as `notes` give them. Answers are drawn as they were measured: the likeliest token,
    with no penalty.
    """
    lines = [
        "# ollama create NAME -f Modelfile",
        *notes,
        "FROM ./model.gguf",
        f"TEMPLATE {_quoted('the template', template)}",
        *(f'PARAMETER stop "{stop}"' for stop in stops),
        f"PARAMETER num_ctx {CONTEXT}",
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
        *([f"LICENSE {_quoted('the licence', licence)}"] if licence else []),
    ]
    return "\n".join(lines) + "\n"


def _quoted(what: str, text: str) -> str:
    if '"""' in text:
        raise Refused(f'{what} holds `"""`, which ends a text in a Modelfile', fix="export `gguf`, and write your own")
    return f'"""{text}"""'


def _licence(base: Path) -> str:
    return "\n\n".join(path.read_text("utf-8", "replace").strip() for path in sorted(base.glob(LICENSES)))
