"""The report: one file that loads nothing, tells everything, and is the same for the same facts."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from report.sample import SPEC, facts
from tunewright.report import ReportFacts, render
from tunewright.report.page import bound, chance, duration, number, share, signed, size, small, value

ATTACK = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}{% raw %}&#60;"


def text_of(page: str) -> str:
    """What a reader sees, as one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


class Tags(HTMLParser):
    """All start tags with their attributes, and whether they are closed in order."""

    EMPTY = frozenset({"meta", "br", "line", "circle", "polyline", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def attacked(given: Any) -> Any:
    """The same facts with the attack in every text and every name."""
    if isinstance(given, str):
        return given + ATTACK
    if isinstance(given, dict):
        return {attacked(key): attacked(one) for key, one in given.items()}
    if isinstance(given, list | tuple):
        return [attacked(one) for one in given]
    return given


def hostile(given: Any, kept: frozenset[str] = frozenset({"verdict", "set_by"})) -> Any:
    """`attacked`, but for the fields' own names and the texts that can only be one of a few."""
    if isinstance(given, BaseModel):
        fields = {name: getattr(given, name) for name in type(given).model_fields}
    elif hasattr(given, "__dataclass_fields__"):
        fields = {name: getattr(given, name) for name in given.__dataclass_fields__}
    elif isinstance(given, dict):
        return {attacked(key): hostile(one) for key, one in given.items()}
    elif isinstance(given, list | tuple):
        return [hostile(one) for one in given]
    else:
        return attacked(given)
    return {name: one if name in kept else hostile(one) for name, one in fields.items()}


def texts(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, dict):
        yield from (text for pair in given.items() for one in pair for text in texts(one))
    elif isinstance(given, list | tuple):
        yield from (text for one in given for text in texts(one))


def test_every_text_is_escaped_and_shown_as_it_is():
    given = ReportFacts.model_validate(hostile(facts(why="because")))
    page = render(given)
    assert "<script" not in page
    assert "<img" not in page
    seen, attacks = text_of(page), [text for text in texts(given.model_dump()) if ATTACK in text]
    assert len(attacks) > 80
    for text in attacks:
        if text.startswith("5e0c"):  # a digest, of which twelve digits are shown
            continue
        plain = " ".join(text.split())
        assert plain in seen or plain.replace('"', '\\"') in seen
    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.found} == {tag for tag, _ in Tags(render(facts(why="because"))).found}
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]


LOADING = {"src", "href", "xlink:href", "srcset", "action", "background", "poster", "data", "ping", "style"}


def test_nothing_is_loaded_from_anywhere():
    page = render(facts())
    assert "http://" not in page
    assert "https://" not in page
    assert "src=" not in page
    assert "url(" not in page
    assert "@import" not in page
    tags = Tags(page).found
    within = [("a", "#report")]  # the link that a keyboard skips to the report by
    linked = [(tag, value) for tag, attributes in tags for name, value in attributes.items() if name in LOADING]
    assert linked == within
    assert [attributes.get("id") for tag, attributes in tags if tag == "main"] == ["report"]
    assert not {tag for tag, _ in tags} & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "img",
        "image",
    }


def test_the_policy_allows_the_one_style_and_nothing_else():
    page = render(facts())
    policy = next(a["content"] for _, a in Tags(page).found if a.get("http-equiv") == "Content-Security-Policy")
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_the_same_facts_give_the_same_bytes_in_another_process():
    code = "from report.sample import facts; from tunewright.report import render; print(render(facts()), end='')"
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "TZ": "Asia/Tokyo",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, env=environment, check=True, timeout=60
        )
        assert done.stdout.decode() == render(facts())


def test_the_order_of_names_does_not_change_the_bytes():
    given = facts()
    turned = {name: dict(reversed(getattr(given, name).items())) for name in ("scores", "parity", "libraries")}
    assert render(facts(**turned)) == render(given)


def shown(given: ReportFacts) -> Iterator[str]:
    """Every text and figure that has to stand in the report."""
    for name, score in given.scores.items():
        yield name
        yield f"{score.n} {number(score.base)} {number(score.tuned)} {signed(score.delta)}"
        yield f"{signed(score.ci95[0])} to {signed(score.ci95[1])}"
        yield chance(score.p_value)
    for verdict in given.gates:
        yield f"{verdict.gate} passed: {verdict.why}"
    for step in given.steps:
        yield f"{step.name} {duration(step.seconds)} {size(step.peak_rss_bytes)}"
    for one in given.substituted:
        yield f"{one.what} asked {one.asked} got {one.got} {one.why}"
    for form, parity in given.parity.items():
        identity = f" {parity.identity[:12]}" if parity.identity else ""
        place = "" if parity.first_divergence is None else f" from token {parity.first_divergence + 1}"
        prompts = f"{parity.prompts} {parity.retokenized} other ids"
        other = f"{parity.diverged}{place} {parity.unended} run on"
        kl = "\u2013" if parity.kl is None else small(parity.kl)
        speed = "\u2013" if parity.tokens_per_second is None else f"{parity.tokens_per_second:,.0f}"
        figures = f"{share(parity.agreement)} {prompts} {other} {kl} {size(parity.bytes)} {speed}"
        yield f"{form}{identity} asked with {parity.engine} {figures} {size(parity.peak_rss_bytes)}"
        yield from (f"{form} is not handed over {why}" for why in parity.refused)
        for name, score in parity.scores.items():
            if "." in name:
                yield f"{form} {name} {score.n} {number(score.base)} {number(score.tuned)} {signed(score.delta)}"
    for part in (given.trainer, given.adapter, given.quantization):
        for name, argument in part.arguments.items():
            yield f"{name} {value(argument.value)} {argument.set_by} {argument.field or ''}".strip()
    for name, found in given.examples.items():
        yield from (f"Won in {name} {found.won_count}", f"Lost in {name} {found.lost_count}")
    for row in (row for found in given.examples.values() for row in (*found.won, *found.lost)):
        yield " ".join(f"{row.origin} {row.prompt} Reference {row.reference} Base {row.base} Tuned {row.tuned}".split())
    for source in given.data.sources:
        yield f"{source.name} {source.rows} {source.set_aside}"
    for name, version in given.libraries.items():
        yield f"{name} {version}"
    yield " ".join(SPEC.split())
    yield f"Base identity {given.base.identity}"
    yield "2 cores, 2 threads"


def test_everything_that_is_known_is_told():
    page = text_of(render(facts()))
    missing = [text for text in shown(facts()) if text not in page]
    assert missing == []


def test_the_lead_says_what_was_trained_on_what():
    assert (
        "A lora adapter of 4,884,480 parameters (3.5 % of the model’s 139,399,488) on SmolLM2-135M-Instruct , "
        "held in nf4, trained by sft on 320 rows: 36,480 tokens, 2,048 of them learnt."
    ) in text_of(render(facts()))
    whole = facts(
        adapter={"kind": "none", "trainable": 10, "total": 10, "bytes": 20},
        quantization={"kind": "none"},
    )
    assert "All 10 parameters of SmolLM2-135M-Instruct trained by sft on 320 rows" in text_of(render(whole))


def test_sections_stand_in_their_order():
    assert re.findall(r"<h2>(.*?)</h2>", render(facts())) == [
        "Base against tuned",
        "Gates",
        "What is served against what was trained",
        "Other options for awq",
        "Training loss",
        "Rows won and lost",
        "What is learnt of a row",
        "Time and memory",
        "What was substituted",
        "Effective arguments",
        "Libraries",
        "The spec",
    ]


def test_the_mask_marks_what_is_learnt_and_nothing_else():
    page = render(facts())
    assert re.findall(r"<mark>(.*?)</mark>", page, re.DOTALL) == ["transfer_timing&lt;|im_end|&gt;"]


def test_a_failed_gate_is_seen_at_the_top():
    gate = {"gate": "heldout.exact_match is at least 0.95", "passed": False, "why": "it is 0.910"}
    page = text_of(render(facts(verdict="failed", why="a gate failed", gates=[gate])))
    assert page.index("bank-router failed") < page.index("a gate failed") < page.index("Base against tuned")
    assert "✗ heldout.exact_match is at least 0.95 failed: it is 0.910" in page


def test_a_run_that_measured_nothing_says_what_is_missing():
    empty = facts(
        scores={}, gates=[], loss=[], examples={}, mask=[], parity={}, search={}, steps=[], machine=None,
        substituted=[], libraries={}, spec_text="",
    )  # fmt: skip
    page = render(empty)
    assert Tags(page).open == []
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Gates", "What was substituted", "Effective arguments"]
    assert "The spec asks for none." in page
    assert "Nothing: every library did what it was asked." in page


@pytest.mark.parametrize("loss", [[(1, 2.0)], [(1, float("nan")), (2, float("inf"))], [(1, 2.0), (2, 2.0)]])
def test_a_loss_that_cannot_be_drawn_is_no_error(loss):
    assert "Training loss" in render(facts(loss=loss))


def test_signs_that_act_are_replaced():
    page = render(facts(name="a\x1b[31m\x00b\u202ec\ud800\nd"))
    assert not set("\x1b\x00\u202e\ud800") & set(page)
    assert "a\ufffd[31m\ufffdb\ufffdc\ufffd\nd" in page
    page.encode()


@pytest.mark.parametrize(
    "changes",
    [{"verdict": "perhaps"}, {"sccores": {}}, {"steps": [{"name": "x", "second": 1}]}, {"scores": {"a": {"n": 1}}}],
)
def test_facts_that_do_not_fit_are_an_error(changes):
    with pytest.raises(ValidationError):
        facts(**changes)


def test_figures_read_as_people_write_them():
    assert (number(0.91), number(-0.5), number(12345.6)) == ("0.910", "\u22120.500", "12,346")
    assert (signed(0.02), signed(-0.02), signed(0), signed(-0.0001)) == (
        "+0.020",
        "\u22120.020",
        "0.000",
        "\u22120.000",
    )
    assert (chance(0.0004), chance(0.05)) == ("< 0.001", "0.050")
    assert (share(0.984), share(1.0), share(35, 1000), share(1, 0)) == ("98.4 %", "100 %", "3.5 %", "0 %")
    assert (size(None), size(12), size(9_800_000), size(2_870_000_000)) == ("\u2013", "12 B", "9.8 MB", "2.87 GB")
    assert (duration(None), duration(1.25), duration(61), duration(3600)) == (
        "\u2013",
        "1.2 s",
        "1 min 01 s",
        "1 h 00 min",
    )
    assert (bound(-0.2), bound(0), bound(220000)) == ("\u22120.2", "0", "+220,000")
    assert (value("x"), value(""), value(None), value([1, "a"])) == ("x", '""', "null", '[1, "a"]')


def test_a_search_is_a_table_of_what_was_tried_and_what_came_of_it():
    seen = text_of(render(facts()))
    start = seen.index("Other options for awq")
    part = seen[start : seen.index("Training loss", start)]
    assert "To make it so from the beginning, write {kind: awq, calibration_rows: 128, group_size: 32} under" in part
    assert "{kind: awq} refused: heldout.exact_match falls behind: 0.703 where the trained form has 0.912" in part
    assert "121.0 MB 61 % 0.62 heldout.exact_match −0.210 −0.250 to −0.170" in part
    assert "refused: it cannot be made, or not be opened: out of rows – – – –" in part
    assert "group_size: 32} passed 124.0 MB 97 % 0.04 –" in part
    none = facts(search={"awq": {"tried": facts().search["awq"].tried[:2]}})
    assert "None passed: awq is not handed over." in text_of(render(none))
    own = facts(search={"awq": {"tried": facts().search["awq"].tried[2:], "found": "{kind: awq}"}})
    assert "Nothing was searched: awq is handed over as the spec writes it." in text_of(render(own))
