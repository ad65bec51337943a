"""On one model our numbers are those that lm_eval gets by its own `HFLM`: the same tokens, answers and scores."""

from __future__ import annotations

from contextlib import chdir

import pytest
from lmeval_work import benchmark, measured, opened, scores, write_tasks

from tiny import tiny_folder, tiny_model, tiny_tokenizer  # noqa: F401
from tunewright_lmeval import library

pytest.importorskip("lm_eval", reason="the extra [lm-eval] is not installed")
pytestmark = pytest.mark.slow

CLOSE = {"abs": 1e-4}  # nats
WINDOW = 16  # tokens that are read at once of a whole text: shorter than the texts
ASKED = {
    "desk_queue": ["acc", "acc_norm"],
    "desk_urgent": ["f1", "mcc", "brier_score", "acc", "exact_match"],
    "desk_last": ["perplexity", "acc"],
    "desk_text": ["word_perplexity", "byte_perplexity", "bits_per_byte"],
    "desk_reply": ["exact_match"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks"), ASKED)


@pytest.fixture(scope="module", params=["no BOS", "a BOS"])
def model(request, tmp_path_factory):
    """A tiny model; of the second kind the tokenizer sets its BOS before every text, as Llama's does."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    made = tiny_model(tmp_path_factory.mktemp("model"))
    if request.param == "a BOS":
        plain = tiny_tokenizer()
        native = type(plain.backend_tokenizer).from_str(plain.backend_tokenizer.to_str())
        native.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        names = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
        with_bos = PreTrainedTokenizerFast(tokenizer_object=native, **names)
        with_bos.chat_template = "{{ bos_token }}" + plain.chat_template
        with_bos.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def theirs(model):
    hflm = library.library("lm_eval.models.huggingface").HFLM
    with library.quiet():
        return hflm(pretrained=str(model), device="cpu", dtype="float32", batch_size=1)


def their_results(theirs, folder, task, few_shot=0, **options):
    """As `simple_evaluate` goes about it."""
    evaluator, manager = library.library("lm_eval.evaluator"), library.library("lm_eval.tasks").TaskManager
    with library.quiet(), chdir(folder / task):
        tasks = manager(include_path=str(folder), include_defaults=False).load([task])
        tasks["tasks"][task].set_config("num_fewshot", few_shot)
        tasks["tasks"][task].set_fewshot_seed(1234)
        return evaluator.evaluate(theirs, tasks, bootstrap_iters=0, fewshot_as_multiturn=True, **options)


@pytest.mark.parametrize("task", ASKED)
def test_scores(task, model, theirs, folder, monkeypatch):
    if task == "desk_text":
        monkeypatch.setattr(theirs, "_max_length", WINDOW)
    expected = their_results(theirs, folder, task)["results"][task]
    evaluator = benchmark(folder, task, metrics=ASKED[task], max_length=WINDOW)
    with opened(model) as subject:
        found = scores(evaluator, measured(evaluator, subject))
    for metric, score in found.items():
        assert score == pytest.approx(expected[f"{metric},none"], rel=1e-4), metric


@pytest.mark.parametrize("chat", [False, True], ids=["plain text", "a conversation"])
@pytest.mark.parametrize("task", ["desk_queue", "desk_reply"])
def test_prompts_with_examples_and_what_is_said_to_them(task, chat, model, theirs, folder):
    samples = their_results(theirs, folder, task, few_shot=2, apply_chat_template=chat)["samples"][task]
    evaluator = benchmark(folder, task, metrics=ASKED[task], few_shot=2, chat=chat)
    with opened(model) as subject:
        graded = measured(evaluator, subject)
    for one, sample in zip(graded, sorted(samples, key=lambda sample: sample["doc_id"]), strict=True):
        prompt, after = sample["arguments"][0]
        if task == "desk_reply":
            assert one.answer.prompt_ids == theirs.tok_encode(prompt)
            assert one.answer.text == sample["filtered_resps"][0]
        else:
            assert one.answer.prompt_ids == theirs._encode_pair(prompt, after)[0]
        assert one.grades[ASKED[task][0]] == sample[ASKED[task][0]]


def test_log_likelihoods_of_texts_with_spaces_and_without_a_prompt(model, theirs):
    from lm_eval.api.instance import Instance

    from tunewright_lmeval.model import SubjectModel

    pairs = [
        ("where is my ", "parcel"),
        ("the lamp", " is dark"),
        ("", "no prompt at all"),
        ("a\n", "\nb"),
    ]
    bos = theirs.tokenizer.decode([theirs.prefix_token_id])
    pairs.append((f"{bos}already begun", " and goes on"))
    requests = [Instance("loglikelihood", {}, pair, 0, metadata=("t", place, 1)) for place, pair in enumerate(pairs)]
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    with opened(model) as subject:
        ours = SubjectModel(subject, 8, 64, frozenset({"t"}), lambda done, of: None, len(pairs), library.loud())
        found = ours.loglikelihood(requests)
    for (nats, greedy), (want, their_greedy) in zip(found, expected, strict=True):
        assert nats == pytest.approx(want, **CLOSE)
        assert greedy is their_greedy


def test_what_the_model_would_say_itself_is_known_as_that(model, theirs):
    from lm_eval.api.instance import Instance

    from tunewright_lmeval.model import SubjectModel

    with opened(model) as subject:
        prompt = "where is my parcel"
        (answer,) = subject.complete([prompt], 1)
        said = theirs.tokenizer.decode(answer.ids)
        ours = SubjectModel(subject, 8, 64, frozenset({"t"}), lambda done, of: None, 2, library.loud())
        asked = [Instance("loglikelihood", {}, (prompt, text), at, metadata=("t", at, 1))
                 for at, text in enumerate((said, " parcel"))]  # fmt: skip
        if ours.tok_encode(prompt + said) == [*answer.prompt_ids, *answer.ids]:
            assert [same for _, same in ours.loglikelihood(asked)] == [True, False]
        else:  # noise that is no text: it does not become the same token again
            assert [same for _, same in ours.loglikelihood(asked)] == [
                same for _, same in theirs.loglikelihood(asked, disable_tqdm=True)
            ]
