"""A Modelfile whose template gives what the model's own gives, or none at all."""

from __future__ import annotations

import pytest
from llama_work import export, loader, trained

from tiny import tiny_model
from tunewright.errors import Refused
from tunewright_llamacpp.gotemplate import render
from tunewright_llamacpp.ollama import KNOWN, go_template, keeps_ends, modelfile

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are small.<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA3 = (
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ '[INST]' + (system + '\n\n' if system and loop.last else '') + message['content'] + '[/INST]' }}"
    "{% else %}{{ message['content'] + '</s>' }}{% endif %}{% endfor %}"
)
QUESTION = [{"role": "user", "content": "Where?"}]


def tokenizer(tmp_path, template):
    base = tiny_model(tmp_path / "base")
    (base / "chat_template.jinja").write_text(template)
    return loader().tokenizer(base)


@pytest.mark.parametrize(
    ("template", "name"),
    [(CHATML, "ChatML"), (LLAMA3, "Llama 3"), (MISTRAL, "Mistral")],
    ids=["chatml", "3", "mistral"],
)
def test_a_known_template_is_found_by_what_it_renders(tmp_path, template, name):
    assert go_template(tokenizer(tmp_path, template)) == KNOWN[name]


def test_a_system_message_that_the_template_adds_is_added_by_ollama(tmp_path):
    found = go_template(tokenizer(tmp_path, WITH_DEFAULT))
    assert render(found, QUESTION) == (
        "<|im_start|>system\nYou are small.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )
    told = [{"role": "system", "content": "Route."}, *QUESTION]
    assert "You are small" not in render(found, told)


@pytest.mark.parametrize(
    "change",
    [
        ("<|im_end|>\n'", "<|im_end|>'"),
        ("message['content']", "message['content'] + ' '"),
        ("{% for", "{{ '<|im_start|>system\nToday.<|im_end|>\n' }}{% for"),
        ("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>'"),
    ],
)
def test_a_template_that_differs_anywhere_is_refused_and_not_approximated(tmp_path, change):
    assert change[0] in CHATML
    with pytest.raises(Refused, match="none that is known in Ollama's language"):
        go_template(tokenizer(tmp_path, CHATML.replace(*change)))


def test_the_folder_is_what_ollama_create_takes(tmp_path):
    base = tiny_model(tmp_path / "base")
    (base / "LICENSE").write_text("Apache License 2.0\n")
    form = export(trained(base, tmp_path / "saved"), tmp_path / "out", kind="ollama", type="q8_0")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert "\nFROM ./model.gguf\n" in text
    assert f'\nTEMPLATE """{KNOWN["ChatML"]}"""\n' in text
    assert '\nPARAMETER stop "<|im_end|>"\n' in text
    assert "\nPARAMETER repeat_penalty 1.0\n" in text, "Ollama's own is 1.1, which gives other answers"
    assert '\nLICENSE """Apache License 2.0"""\n' in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"Modelfile", "model.gguf", "LICENSE"}
    assert (form.engine, form.attach) == ("llama-cpp", False)


@pytest.mark.parametrize(
    ("template", "kept"), [(CHATML, True), (LLAMA3, False), (MISTRAL, True)], ids=["chatml", "3", "mistral"]
)
def test_a_template_that_trims_is_told_from_one_that_does_not(tmp_path, template, kept):
    made = tokenizer(tmp_path, template)
    assert keeps_ends(go_template(made), made) == kept


@pytest.mark.parametrize("trims", [False, True])
def test_where_training_trimmed_a_message_the_modelfile_says_that_ollama_does_not(tmp_path, trims):
    base = tiny_model(tmp_path / "base")
    template = base / "chat_template.jinja"
    trimmed = CHATML.replace("message['content']", "message['content'] | trim")
    template.write_text(trimmed if trims else CHATML)
    export(trained(base, tmp_path / "saved"), tmp_path / "out", kind="ollama", type="q8_0")
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert ("\n# The model's own template treats white space at the ends of a message otherwise" in text) == trims
    assert text.index("FROM ./model.gguf") < text.index("TEMPLATE")


def test_a_text_that_would_end_early_is_refused():
    with pytest.raises(Refused, match='holds `"""`'):
        modelfile("T", [], 'a """ b')


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ range $i, $_ := .Messages }}{{ .Role }} {{- .Content }}\n{{ end }}.", "userWhere?\n."),
        ("a {{- if not .System }} b {{ end -}} c", "a b c"),
        ('{{ range $i, $_ := .Messages }}{{ if eq .Role "assistant" }}A{{ else if eq .Role "user" }}U{{ else }}S'
         "{{ end }}{{ end }}", "U"),
    ],
)  # fmt: skip
def test_go_is_read_as_go_reads_it(template, text):
    assert render(template, QUESTION) == text


def test_go_that_is_not_known_here_is_no_template():
    with pytest.raises(ValueError, match=r"`\.Tools` is not read here"):
        render("{{ .Tools }}", QUESTION)
