"""What `vllm` makes of a server, shown with a stand-in: what is started, who is asked, and every fault told."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from vllm_work import ADAPTS, WHOLE

from tiny import backend
from tunewright.errors import BadInput, EnvironmentFault, Refused, WorkFailed
from tunewright.parts.engine import Continuation
from tunewright.parts.several import Asked
from tunewright_vllm.engine import MODULE, Vllm

TALK, TEXT = [{"role": "user", "content": "where is it"}], "plain words"


def letters(first, count=3):
    return "".join(chr(first + place) for place in range(count))


def test_prompts_are_what_the_server_makes_of_them_and_the_base_is_asked_by_its_name(stand_in):
    with stand_in.open() as subject:
        talk, text = subject.complete([TALK, TEXT], 3)
        assert subject.identity == "vllm:base"
    assert talk.prompt_ids == [1, 105, 102, 102], "a conversation by its template"
    assert text.prompt_ids == [105, 105], "plain text as it stands"
    assert (talk.text, talk.stopped) == (letters(65), "limit")
    assert sorted((one["model"], one["prompt"]) for one in stand_in.asked) == [
        ("base", talk.prompt_ids),
        ("base", text.prompt_ids),
    ]
    with pytest.raises(ProcessLookupError):  # it is stopped
        os.kill(stand_in.started["pid"], 0)


def test_what_was_trained_is_asked_under_its_own_name(stand_in, adapter):
    with stand_in.open(method=ADAPTS, trained=adapter("a", 80)) as subject:
        (answer,) = subject.complete([TALK], 3)
        assert subject.identity == "vllm:tuned"
    assert answer.text == letters(80)
    assert {one["model"] for one in stand_in.told if "model" in one} == {"tuned"}, "its prompts are cut by it, too"


def test_several_are_asked_each_under_its_name_in_any_order(stand_in, adapter):
    adapters = {name: adapter(name, says) for name, says in (("one", 70), ("two", 80))}
    order = ["two", None, "one", None, "two"]
    with stand_in.open_several(adapters) as several:
        found = several.complete([Asked(TALK, name) for name in order], 3)
        with pytest.raises(BadInput, match="no adapter `tow` is open") as told:
            several.complete([Asked(TALK, None), Asked(TALK, "tow")], 3)
    assert [one.text for one in found] == [letters({None: 65, "one": 70, "two": 80}[name]) for name in order]
    assert "two" in told.value.fix
    assert len(stand_in.asked) == len(order), "nothing is asked where one of them is not there"
    assert (stand_in.word("--max-loras"), stand_in.word("--max-cpu-loras")) == ("2", "2")


def test_an_adapter_with_the_bases_name_would_answer_for_it(stand_in, adapter):
    with pytest.raises(BadInput, match="`base`"), stand_in.open_several({"base": adapter("a", 70)}):
        pass


def test_an_adapters_path_names_its_content(stand_in, adapter):
    """vLLM keeps what it has read by the path: one that was overwritten in place would answer as before."""
    paths = []
    for says in (70, 80, 70):
        with stand_in.open(method=ADAPTS, trained=adapter("same", says)) as subject:
            assert subject.complete([TALK], 1)[0].text == chr(says)
        paths.append(Path(stand_in.word("--lora-modules").partition("=")[2]))
    first, second, third = (path.name for path in paths)
    assert first == third != second
    assert not any(path.exists() for path in paths), "and nothing is left behind"


def test_equal_adapters_are_one_copy_under_both_names(stand_in, adapter):
    with stand_in.open_several({"one": adapter("one", 70), "two": adapter("two", 70)}) as several:
        found = several.complete([Asked(TALK, "one"), Asked(TALK, "two")], 1)
    assert [one.text for one in found] == [chr(70)] * 2


@pytest.mark.parametrize(
    ("rank", "pattern", "bound"), [(4, {}, "8"), (16, {"q_proj": 20}, "32"), (16, None, "16"), (64, {"v": 8}, "64")]
)
def test_the_rank_that_is_served_is_the_adapters(stand_in, adapter, rank, pattern, bound):
    with stand_in.open(method=ADAPTS, trained=adapter("a", 70, rank, rank_pattern=pattern)):
        assert stand_in.word("--max-lora-rank") == bound


def test_the_highest_rank_of_several_is_served(stand_in, adapter):
    with stand_in.open_several({"one": adapter("one", 70, 4), "two": adapter("two", 80, 33)}):
        assert stand_in.word("--max-lora-rank") == "64"


@pytest.mark.parametrize(
    ("options", "own", "context", "cache"),
    [({}, 512, "512", 1), ({"context": 100}, 512, "100", 1), ({"context": 600, "cache_gib": 3}, 512, "512", 3),
     ({}, 100_000, "8192", 1), ({}, None, "8192", 1)],
)  # fmt: skip
def test_the_command_says_what_the_options_and_the_model_say(stand_in, base, options, own, context, cache):
    (base / "config.json").write_text("{}" if own is None else f'{{"max_position_embeddings": {own}}}')
    with stand_in.open(options=options, dtype="bf16"):
        words = stand_in.started["arguments"]
    assert words[:2] == ["-m", MODULE]
    assert stand_in.word("--model") == str(base)
    assert stand_in.word("--host") == "127.0.0.1"
    assert stand_in.word("--max-model-len") == context
    assert stand_in.word("--kv-cache-memory-bytes") == str(cache << 30)
    assert stand_in.word("--dtype") == "bfloat16"
    assert "--enable-lora" not in words


def test_nothing_is_told_to_anyone_and_nothing_of_ours_leads_it_astray(stand_in):
    stand_in.monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    stand_in.monkeypatch.setenv("PYTHONHOME", "")
    with stand_in.open():
        found = stand_in.started["environment"]
    told = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_TARGET_DEVICE": "cpu"}
    assert told.items() <= found.items()
    assert not {"VIRTUAL_ENV", "PYTHONHOME"} & found.keys()
    assert os.pathsep not in found["PYTHONPATH"], "its path has the plugin alone"
    assert "VLLM_PLUGINS" not in found, "all that it finds are loaded, as it is with vLLM"


def test_a_key_of_your_own_servers_is_not_asked_of_ours(stand_in):
    """vLLM takes it from the environment, and would refuse all that we ask."""
    stand_in.monkeypatch.setenv("VLLM_API_KEY", "secret")
    with stand_in.open():
        assert stand_in.started["environment"].get("VLLM_API_KEY", "") == ""


@pytest.mark.parametrize(("own", "given"), [("lora_filesystem_resolver", "lora_filesystem_resolver,tunewright_lora"),
                                            ("", "tunewright_lora")])  # fmt: skip
def test_a_list_of_plugins_keeps_yours_and_has_ours(stand_in, adapter, own, given):
    stand_in.monkeypatch.setenv("VLLM_PLUGINS", own)
    with stand_in.open(method=ADAPTS, trained=adapter("a", 70)):
        assert stand_in.started["environment"]["VLLM_PLUGINS"] == given


def test_a_server_without_the_plugin_is_refused_where_there_are_adapters(stand_in, adapter):
    """The base's rows would be answered by an adapter."""
    with pytest.raises(Refused, match="did not load the plugin") as told:
        stand_in.open({"ignores": "plugins"}, method=ADAPTS, trained=adapter("a", 70)).__enter__()
    assert "VLLM_PLUGINS" in told.value.fix
    with stand_in.open({"ignores": "plugins"}) as subject:
        assert subject.complete([TALK], 1)[0].text == "A"


@pytest.mark.parametrize(("how", "says"), [({"root": "/elsewhere"}, "/elsewhere"), ({"loras": 0}, "and not")])
def test_another_server_on_the_port_is_not_believed(stand_in, adapter, how, says):
    with pytest.raises(Refused, match=says):
        stand_in.open(how, method=ADAPTS, trained=adapter("a", 70)).__enter__()


def test_its_death_is_told_with_its_cause_and_not_its_last_words_alone(stand_in):
    noise = [f"leaked instance {number}" for number in range(40)]
    said = ["Traceback (most recent call last):", "RuntimeError: Unsupported head_dim=16", *noise, "OSError: later"]
    with (
        pytest.raises(WorkFailed, match=r"(?s)exit code 1.*leaked instance 39") as told,
        stand_in.open({"dies": said}) as subject,
    ):
        subject.complete([TALK], 2)
    assert "RuntimeError: Unsupported head_dim=16\n" in str(told.value)
    assert "leaked instance 3\n" not in str(told.value)


def test_a_start_that_fails_is_told_with_its_cause(stand_in):
    with pytest.raises(WorkFailed, match=r"(?s)exit code 3.*ValueError: no such dtype.*leaked 39"):
        stand_in.open({"never": "ValueError: no such dtype"}).__enter__()


def test_an_error_of_the_asker_is_not_taken_for_its_death(stand_in):
    with pytest.raises(WorkFailed, match=r"^mine$"), stand_in.open():
        raise WorkFailed("mine")


def test_a_base_in_few_bits_is_not_served_in_its_files_bits(stand_in, base):
    few = SimpleNamespace(kind="nf4", as_stored=lambda: False)
    with pytest.raises(Refused, match="not in `nf4`: another model"), stand_in.open(quantizer=few):
        pytest.fail("another model was opened")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with stand_in.open(quantizer=few) as subject:  # it was stored so: vLLM reads that itself
        assert subject.complete([TEXT], 1)


def test_lora_on_the_head_is_not_scored_on_a_cpu(stand_in, adapter):
    folder = adapter("a", 80)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", "lm_head"]}))
    with stand_in.open(method=ADAPTS, trained=folder) as subject:
        assert subject.complete([TALK], 3)
        for ask in (subject.score, lambda rows: subject.likeliest(rows, 2)):
            with pytest.raises(Refused, match="`lm_head`"):
                ask([Continuation([1], [2])])


def test_an_empty_prompt_is_the_askers_fault(stand_in):
    with stand_in.open() as subject:
        with pytest.raises(BadInput, match="prompt 2 is empty"):
            subject.complete([TEXT, ""], 2)
        with pytest.raises(BadInput, match="nothing stands before its first token"):
            subject.score([Continuation([], [1])])
        with pytest.raises(BadInput, match="kit:2: nothing stands before its first token"):
            subject.likeliest([Continuation([], [1], "kit:2")], 2)
    assert not stand_in.asked


@pytest.mark.parametrize(
    ("options", "tokens", "fix"),
    [
        ({"context": 8}, 8, "raise the engine's `context`, up to the 512 that the model reads"),
        ({}, 512, "the model reads no more"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(stand_in, options, tokens, fix):
    rows = [Continuation([1] * (tokens - 1), [2], "kit:7")]
    with stand_in.open(options=options) as subject:
        assert subject.complete([TEXT], tokens - 2), "two tokens, and all the rest is the answer"
        asked = len(stand_in.asked)
        for ask, says in (
            (lambda: subject.complete([TEXT, TALK], tokens - 3), f"prompt 2: 4 tokens with an answer of {tokens - 3}"),
            (lambda: subject.score(rows), f"kit:7: {tokens} tokens with an answer of 1"),
            (lambda: subject.likeliest(rows, 2), f"kit:7: {tokens} tokens with an answer of 1"),
        ):
            with pytest.raises(BadInput, match=f"^{says} are longer than the context of {tokens}\n") as told:
                ask()
            assert told.value.fix == f"shorten it; {fix}" if not options else fix in told.value.fix
        assert len(stand_in.asked) == asked


def test_a_remedy_names_the_options_of_this_engine_alone(stand_in):
    from tunewright_endpoint.remedies import ENDPOINT
    from tunewright_vllm.remedies import OURS, YOURS

    fields = set(Vllm.Options.model_fields)
    for remedies, idle in ((OURS, {"url", "served_name", "api_key"}), (YOURS, {"python", "context", "cache_gib"})):
        named = {word for text in remedies for word in re.findall(r"`([a-z_]+)`", text)}
        assert named
        assert named <= fields - idle
    assert {"prompts", "timeout"} <= {word for text in ENDPOINT for word in re.findall(r"`([a-z_]+)`", text)}
    with stand_in.open() as subject:
        assert subject.client.remedies == subject.root.remedies == OURS


def test_a_server_that_cuts_no_prompts_is_told(stand_in):
    with stand_in.open({"cuts": 0}) as subject, pytest.raises(WorkFailed, match="tells no tokens of a prompt"):
        subject.complete([TALK], 2)


def test_scores_are_of_the_answer_alone(stand_in):
    with stand_in.open() as subject:
        heard = []
        assert subject.score([Continuation([5, 6], [7, 40])], heard.append) == [[-3.5, -20.0]]
    assert heard == [1]
    assert stand_in.asked[0]["prompt"] == [5, 6, 7, 40]


def test_a_token_that_was_given_is_among_the_likeliest_only_by_its_rank(stand_in):
    with stand_in.open() as subject:
        found = subject.likeliest([Continuation([5], [7, 2])], 3)
    assert found == [[{1: -0.5, 2: -1.0, 3: -1.5}] * 2]


def test_full_tuning_is_a_model_of_the_bases_words_and_the_trained_weights(stand_in, base, tmp_path):
    trained = tmp_path / "trained"
    trained.mkdir()
    (base / "model.safetensors.index.json").write_text("of the base's shards")
    (base / "generation_config.json").write_text("of the base")
    (trained / "model-1.safetensors").write_text("trained")
    (trained / "config.json").write_text('{"max_position_embeddings": 256}')
    with stand_in.open(method=WHOLE, trained=trained) as subject:
        assert subject.complete([TALK], 1)[0].text == "A"
        assert stand_in.word("--max-model-len") == "256"
    files = stand_in.started["files"]
    assert files["model-1.safetensors"] == "trained"
    assert files["generation_config.json"] == "of the base"
    assert files["config.json"] == '{"max_position_embeddings": 256}'
    assert "tokenizer.json" in files
    assert not {"model.safetensors", "model.safetensors.index.json"} & files.keys(), "weights of the base"
    assert "--enable-lora" not in stand_in.started["arguments"]


def test_full_tuning_without_weights_is_not_the_base(stand_in, tmp_path):
    """It would be served under the name of what was trained."""
    (tmp_path / "trained").mkdir()
    with pytest.raises(Refused, match="no weights"):
        stand_in.open(method=WHOLE, trained=tmp_path / "trained").__enter__()


def test_a_folder_without_a_model_is_refused_before_a_start(stand_in, tmp_path):
    with pytest.raises(Refused, match=r"config\.json cannot be read"):
        stand_in.open(base=tmp_path / "gone").__enter__()
    assert stand_in.told == []


@pytest.mark.parametrize(
    ("options", "says"),
    [({"served_name": "a"}, "`served_name` is of a server of your own"),
     ({"api_key": "${env:KEY}"}, "`api_key` is of a server of your own"),
     ({"url": "http://h/v1", "python": "x"}, "`python` is of a server that is started here"),
     ({"url": "http://h/v1", "context": 5}, "`context` is of a server that is started here"),
     ({"url": "http://h/v1", "cache_gib": 5}, "`cache_gib` is of a server that is started here")],
)  # fmt: skip
def test_an_option_that_does_nothing_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        backend(Vllm, **options)


def test_without_vllm_plan_says_what_to_install(cache, stand_in):
    engine = backend(Vllm)
    assert "tunewright engines install vllm" in engine.lacking()
    with pytest.raises(EnvironmentFault, match="tunewright engines install vllm"):
        engine.open(stand_in.served).__enter__()


def test_an_environment_of_ones_own_is_asked_for_and_keyed_by_what_it_holds(environment, tmp_path):
    own = backend(Vllm, python=str(environment / "bin" / "python"))
    assert own.lacking() is None
    assert own.versions() == {"vllm": "vllm-0.32.0"}
    gone = backend(Vllm, python=str(tmp_path / "gone"))
    assert "there is no interpreter" in gone.lacking()
    held = next(environment.glob("lib/*/*/vllm*"))
    held.rename(held.with_name("torch-2.dist-info"))
    assert "holds no vLLM" in own.lacking()
    assert own.versions() == {"vllm": "absent"}


def test_what_is_pinned_is_keyed_and_of_a_server_of_your_own_nothing_is_known():
    assert set(backend(Vllm).versions().values()) >= {"0.32.0"}
    elsewhere = backend(Vllm, url="http://127.0.0.1:8000/v1")
    assert elsewhere.versions() == {}
    assert elsewhere.lacking() is None
