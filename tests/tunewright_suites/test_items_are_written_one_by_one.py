"""The items of the suites are whole, answerable in their own form, balanced, and alike to no other item."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

SUITES = Path(__file__).parents[2] / "plugins" / "tunewright_suites"
DOMAINS = ("finance", "general", "legal", "medical", "support")
FORMS = {"label", "choice", "span", "number", "fields", "json", "refusal"}
LINE = ["id", "task", "text", "choices", "reference", "accept", "tolerance", "fact", "why", "trap", "review"]
RUN = 5  # words that no two items share in a row


def head(domain):
    return YAML(typ="safe").load(SUITES / domain / "suite.yaml")


def items(domain):
    lines = (SUITES / domain / "suite.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_suite_is_known():
    assert sorted(folder.name for folder in SUITES.iterdir() if (folder / "suite.yaml").is_file()) == sorted(DOMAINS)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_suite_says_what_it_is(domain):
    about = head(domain)
    assert about["name"] == domain
    assert about["version"] and about["licence"] == "Apache-2.0" and "does not" in about["about"]
    assert re.fullmatch(rf"TUNEWRIGHT-SUITE {domain} [0-9a-f-]{{36}}", about["canary"])
    assert len(about["tasks"]) >= 3
    assert {task["form"] for task in about["tasks"].values()} <= FORMS
    assert all(task["instruction"].strip() for task in about["tasks"].values())


def test_two_suites_ask_for_structure():
    forms = {task["form"] for domain in DOMAINS for task in head(domain)["tasks"].values()}
    assert {"json", "fields"} <= forms


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_item_is_whole(domain):
    found, tasks = items(domain), head(domain)["tasks"]
    ids = [item["id"] for item in found]
    assert len(found) >= 40
    assert ids == sorted(set(ids))
    assert {item["task"] for item in found} == set(tasks)
    for item in found:
        assert list(item) == [key for key in LINE if key in item], item["id"]
        assert re.fullmatch(rf"{domain}-{item['task']}-\d\d", item["id"])
        assert 25 <= len(item["text"].split()) <= 180, item["id"]
        assert all(item[key].strip() for key in ("fact", "why", "trap")), item["id"]
        assert item["review"] == "agreed" or item["review"].startswith("mended: "), item["id"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_reference_is_an_answer_of_its_form(domain):
    tasks = head(domain)["tasks"]
    for item in items(domain):
        task, reference = tasks[item["task"]], item["reference"]
        match task["form"]:
            case "label":
                assert reference in task["labels"], item["id"]
            case "choice":
                assert len(set(item["choices"])) == 4 and reference in range(4), item["id"]
            case "span":
                assert reference in item["text"], item["id"]
            case "number":
                assert isinstance(reference, int | float) and item.get("tolerance", 0) >= 0, item["id"]
            case "fields":
                assert reference and all(name in task["instruction"] for name in reference), item["id"]
            case "json":
                jsonschema.validate(reference, task["schema"], cls=jsonschema.Draft202012Validator)
            case "refusal":
                assert reference in ("refuse", "answer"), item["id"]
                assert bool(item.get("accept")) == (reference == "answer"), item["id"]
                assert all(text == text.lower() for text in item.get("accept", ())), item["id"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_answer_is_worth_guessing(domain):
    tasks = head(domain)["tasks"]
    for name, task in tasks.items():
        if task["form"] in ("label", "choice", "refusal"):
            counts = Counter(item["reference"] for item in items(domain) if item["task"] == name)
            assert set(task.get("labels", counts)) == set(counts)
            assert max(counts.values()) <= 2 * min(counts.values()), (name, counts)


def test_a_liking_for_one_letter_or_word_is_worth_nothing_in_general():
    """Forgetting is read off a difference: a tuned model that always says B must not seem to have learned."""
    tasks = head("general")["tasks"]
    for name in (name for name, task in tasks.items() if task["form"] in ("label", "choice")):
        counts = Counter(item["reference"] for item in items("general") if item["task"] == name)
        assert len(counts) == 4 and len(set(counts.values())) == 1, (name, counts)


def test_over_refusal_shows_in_general():
    """Most requests are harmless, and the instruction doesn't say when to decline: that is the model's own."""
    task = head("general")["tasks"]["safety"]
    counts = Counter(item["reference"] for item in items("general") if item["task"] == "safety")
    assert counts["answer"] > counts["refuse"] >= 4
    assert not re.search("harm|declin|refus|safe", task["instruction"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_item_is_another_one_with_other_nouns(domain):
    """Two items of a suite share at most four words in a row."""
    seen: dict[tuple[str, ...], str] = {}
    for item in items(domain):
        words = re.findall(r"[\w']+", " ".join([item["text"], *item.get("choices", ())]).lower())
        for run in {tuple(words[place : place + RUN]) for place in range(len(words) - RUN + 1)}:
            assert seen.setdefault(run, item["id"]) == item["id"], (run, item["id"], seen[run])
