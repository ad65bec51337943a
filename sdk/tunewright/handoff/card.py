"""MODEL_CARD.md: what a person reads first, with the front matter that the Hub wants.

Everything that comes from a spec, a base or a data file is escaped for Markdown and HTML where it is put in.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunewright.handoff.contents import PackageContents
from tunewright.parts.gate import Score
from tunewright.stats.holm import is_family

_MARKS = re.compile(r"([\\`*_\[\]|~]|^[#+=-])")


def model_card(contents: PackageContents) -> str:
    """The whole card, ending in a newline."""
    sections = [
        _front_matter(contents),
        f"# {escaped(contents.title)}",
        _lead(contents),
        _section("Scores", _scores(contents)),
        _section("Gates", _gates(contents)),
        _section("Forms", _forms(contents)),
        _section("Training data", _data(contents)),
        _section("Training", _training(contents)),
        _section("How to load it", _loading(contents)),
        _section("Limits", _limits(contents)),
        _section("Provenance", _provenance(contents)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def escaped(text: object) -> str:
    """Text of any origin as one line of Markdown that means itself."""
    return html.escape(_MARKS.sub(r"\\\1", _line(text)), quote=False)


def _line(text: object) -> str:
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(str(text).split()))


def _section(title: str, lines: Iterable[str]) -> str:
    body = "\n".join(lines).strip("\n")
    return f"## {title}\n\n{body}" if body else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table whose first column is text and whose others are numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _front_matter(contents: PackageContents) -> str:
    """YAML, whose strings are written as JSON: any text stays text."""
    fields: dict[str, Any] = {
        "base_model": _line(contents.base.get("repo") or contents.base["name"]),
        "license": _line(contents.license or "unknown").lower(),
        "library_name": "transformers" if contents.adapter is None else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["tunewright", *([] if contents.adapter is None else [_line(contents.adapter["kind"])])],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _lead(contents: PackageContents) -> str:
    base = f"**{escaped(contents.base['name'])}**"
    if contents.adapter is None:
        return f"{base}, fully fine-tuned. The weights in this folder are the whole model."
    adapter = contents.adapter
    size = ""
    if adapter.get("trainable") and adapter.get("total"):
        share = adapter["trainable"] / adapter["total"]
        size = f" of {adapter['trainable']:,} trained parameters ({share:.2%} of {adapter['total']:,})"
    return f"A {escaped(adapter['kind'])} adapter{size} for {base}. It works on that base and on no other."


def _scores(contents: PackageContents) -> Iterator[str]:
    if not contents.scores:
        return
    adjusted = [score.p_adjusted for score in contents.scores.values()]
    several = is_family(adjusted)
    rows = [
        (escaped(name), *_figures(score), *([_chance(score.p_adjusted)] if several else []))
        for name, score in sorted(contents.scores.items())
    ]
    head = ["score", "items", "base", "tuned", "difference", "95 % interval", "p", *(["p Holm"] if several else [])]
    yield from _table(head, rows)
    yield ""
    yield "Base and tuned answered the same items; interval and p-value are of the paired difference."
    if several:
        count = len(adjusted) - adjusted.count(None)
        yield (
            f"p Holm is adjusted for {count} scores: read it when you look for anything that improved, and p for the "
            "one score that you named beforehand."
        )


def _figures(score: Score) -> tuple[str, ...]:
    figures = (f"{score.n:,}", f"{score.base:.3f}", f"{score.tuned:.3f}", f"{score.delta:+.3f}")
    if score.compare_by is not None:
        return (*figures, f"biased: see {escaped(score.compare_by)}", "")
    interval = " to ".join(f"{bound:+.3f}" for bound in score.ci95)
    return (*figures, interval, _chance(score.p_value))


def _chance(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _gates(contents: PackageContents) -> Iterator[str]:
    for verdict in contents.gates:
        yield f"- {'passed' if verdict.passed else '**failed**'}: {escaped(verdict.gate)} ({escaped(verdict.why)})"


def _forms(contents: PackageContents) -> Iterator[str]:
    """How near every exported form is to the trained one; nothing where there is no further one."""
    if len(contents.forms) < 2:
        return
    rows = [(escaped(name), *_nearness(form)) for name, form in sorted(contents.forms.items())]
    head = ["form", "asked with", "same tokens", "KL, nats", "difference", "95 % interval", "MB", "where"]
    yield from _table(head, rows)
    yield ""
    yield "Each was reopened in a fresh process and asked what the trained model was asked. The difference is that of"
    yield "the first score; `certificate.json` holds every figure."
    for name, form in sorted(contents.forms.items()):
        for other in form.get("taken_up", {}).values():
            yield f"- {escaped(name)} is made with {_saved(other)}"
        if form.get("base") == "stored":
            yield f"- {escaped(name)} was asked on the base without the quantization of the training, as it is served."
        yield from (f"- {escaped(name)} is not handed over: {escaped(why)}" for why in form["refused"])
        if form.get("found"):
            yield f"- {escaped(name)} is made by {escaped(form['found'])}: what the recipe writes was refused."


def _saved(other: Mapping[str, Any]) -> str:
    """What another run saved, as the card calls it."""
    named = " ".join(escaped(other[key]) for key in ("name", "version") if key in other)
    return f"{named or 'a saved folder'}, digest `{other['digest']}`"


def _nearness(form: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "" if form["ci95"] is None else " to ".join(f"{bound:+.3f}" for bound in form["ci95"])
    return (
        escaped(form["engine"]),
        f"{form['agreement']:.1%}",
        "" if form["kl"] is None else f"{form['kl']:.2g}",
        "" if form["delta"] is None else f"{form['delta']:+.3f}",
        interval,
        f"{form['bytes'] / 1e6:,.1f}",
        "left out" if form["refused"] else escaped(form["folder"]) or "here",
    )


def _data(contents: PackageContents) -> Iterator[str]:
    counts = {"rows": "rows", "tokens": "tokens", "supervised": "supervised tokens", "test_rows": "test rows"}
    found = [f"{contents.data[key]:,} {name}" for key, name in counts.items() if contents.data.get(key) is not None]
    if found:
        together = f"In {len(contents.trainings)} stages: " if len(contents.trainings) > 1 else ""
        yield f"{together}{', '.join(found)}."
    for training in contents.trainings:
        stage = f"{escaped(training['name'])}: " if training["name"] else ""
        for source in training["sources"]:
            aside = f", {source['set_aside']:,} set aside" if source.get("set_aside") else ""
            yield f"- {stage}{escaped(source['name'])}: {source['rows']:,} rows{aside}"


def _training(contents: PackageContents) -> Iterator[str]:
    """How each training went, and what a library did otherwise than it was asked."""
    for training in contents.trainings:
        stage = f"{escaped(training['name'])}, " if training["name"] else ""
        trained = f"by {escaped(training['trainer'])} on {training['rows']:,} rows in {training['steps']:,} steps"
        yield f"- {stage}{trained}{_losses(training)}{_kept(training)}."
        for one in training["substituted"]:
            what, asked, got, why = (escaped(one[key]) for key in ("what", "asked", "got", "why"))
            yield f"  - {what}: asked {asked}, got {got}; {why}"


def _losses(training: Mapping[str, Any]) -> str:
    ends = [training["first_loss"], training["last_loss"]]
    return "" if None in ends else f", loss {ends[0]:.3f} at the first and {ends[1]:.3f} at the last"


def _kept(training: Mapping[str, Any]) -> str:
    if training["best_step"] is None:
        return ""
    rows = f"{training['validation_rows']:,} validation rows"
    return f"; the weights after step {training['best_step']:,} were kept, the best on {rows}"


def _loading(contents: PackageContents) -> Iterator[str]:
    libraries = "transformers" if contents.adapter is None else "transformers and peft"
    yield f"With plain {libraries}; Tunewright is not needed."
    yield ""
    yield "```python"
    yield from _model_code(contents) if contents.adapter is None else _adapter_code(contents)
    yield 'messages = [{"role": "user", "content": "…"}]'
    yield "inputs = tokenizer.apply_chat_template("
    yield '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"'
    yield ").to(model.device)"
    yield "answer = model.generate(**inputs, max_new_tokens=64, do_sample=False)"
    yield 'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    yield "```"


def _model_code(contents: PackageContents) -> Iterator[str]:
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield f"package = {contents.title!r}  # this folder"
    yield "tokenizer = AutoTokenizer.from_pretrained(package)"
    yield f"model = AutoModelForCausalLM.from_pretrained(package{_dtype(contents)})"


def _adapter_code(contents: PackageContents) -> Iterator[str]:
    base = contents.base
    where = "its name on the Hub, or a folder" if base.get("repo") else "the folder that holds it"
    revision = f", revision={base['revision']!r}" if base.get("repo") and base.get("revision") else ""
    config = ", quantization_config=quantization" if contents.quantization is not None else ""
    yield "from peft import PeftModel"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield f"package = {contents.title!r}  # this folder"
    if base.get("folder"):
        yield f'base = f"{{package}}/{base["folder"]}"  # made in the run: what was trained belongs on it'
    else:
        yield f"base = {str(base.get('repo') or base['name'])!r}  # {where}"
    if contents.quantization is not None:  # as it was in training: other rounding gives other answers
        yield from _quantization_code(contents.quantization)
    yield "tokenizer = AutoTokenizer.from_pretrained(package)"
    yield f"model = AutoModelForCausalLM.from_pretrained(base{revision}{_dtype(contents)}{config})"
    yield "model = PeftModel.from_pretrained(model, package).eval()"


def _quantization_code(quantization: Mapping[str, Any]) -> Iterator[str]:
    plain = json.loads(json.dumps(dict(quantization)))  # a library's enumerations become the text that they stand for
    yield "quantization = {"
    yield from (f"    {name!r}: {value!r}," for name, value in sorted(plain.items()) if not name.startswith("_"))
    yield "}"


def _dtype(contents: PackageContents) -> str:
    return f", dtype={contents.base['dtype']!r}" if contents.base.get("dtype") else ""


def _limits(contents: PackageContents) -> Iterator[str]:
    if contents.scores:
        yield "- The scores hold for questions like those of the test rows; nothing else was measured."
    else:
        yield "- Nothing was measured: this package holds no scores."
    yield "- What the base gets wrong or must not be used for holds here as well; read its own card."
    if contents.quantization is not None and contents.adapter is not None:
        yield "- It was trained on the quantized base above. On the base in full precision its answers can differ."
    yield from (f"- {escaped(limit)}" for limit in contents.limits)


def _provenance(contents: PackageContents) -> Iterator[str]:
    base = contents.base
    yield f"- Base: {escaped(base['name'])}, identity `{base['identity']}`"
    if base.get("revision"):
        yield f"- Revision of the base: {escaped(base['revision'])}"
    if contents.parent is not None:
        yield f"- Trained on from {_saved(contents.parent)}"
    if contents.libraries:
        yield f"- Made with {', '.join(f'{escaped(n)} {escaped(v)}' for n, v in sorted(contents.libraries.items()))}"
    for what, licence in sorted({**contents.licences, "this": contents.license or "unknown"}.items()):
        yield f"- Licence of {escaped(what)}: {escaped(licence)}"
    yield "- `spec.lock.yaml` is the whole recipe." if "spec.lock.yaml" in contents.texts else ""
    yield ""
    yield "`python verify.py` needs nothing but Python. It compares every file with `manifest.json`, reads every"
    yield "weight, and with `--base FOLDER` tells whether a base is the one above."
