"""`plugins new`: a package with one backend that works, and a test by the conformance kit that passes at once.

The texts are in templates/, one a part; `@kind@`, `@class@` and the like stand where a name is put in.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tunewright import __version__
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts import PARTS
from tunewright.spec.suggest import did_you_mean
from tunewright.store import disk

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MODEL = ("adapter", "engine", "exporter", "loader", "model_source", "quantizer", "trainer")
"""Parts whose test needs a model, and so the extra with the libraries."""

USAGE = {
    "model_source": "model: {source: {kind: @kind@, path: my-model}}",
    "loader": "model: {loader: {kind: @kind@}, source: {kind: pypi}}",
    "quantizer": "quantization: {kind: @kind@}",
    "adapter": "adapter: {kind: @kind@, r: 8}",
    "data_source": "data: {train: [{kind: @kind@, path: rows.txt}]}",
    "prompt_format": "data: {format: {kind: @kind@, question: text, answer: label}}",
    "trainer": "trainer: {kind: @kind@, epochs: 2, learning_rate: 1.0e-3}",
    "engine": "evals: [{kind: heldout, engine: @kind@}]",
    "evaluator": "evals: [{kind: @kind@, ignore_case: true}]",
    "gate": "gates: [{kind: @kind@, metric: heldout.exact_match, at_least: 0.1}]",
    "exporter": "exports: [{kind: @kind@}]",
    "tracker": "trackers: [{kind: @kind@, path: log.jsonl}]",
}  # fmt: skip
OPTIONS = {"gate": '{"metric": "heldout.exact_match"}, ', "tracker": '{"path": tmp_path / "log.jsonl"}, '}
SAMPLE = {"evaluator": ', answers=["It is Delivery.", "billing", "no idea"]'}
"""What a part's test gives to the kit: options that have no default, a sample in place of the kit's own."""


class Names(NamedTuple):
    """Everything that a plugin is called by: `acme-tunewright` brings the kind `acme` in the module acme_tunewright."""

    name: str
    part: str

    @property
    def module(self) -> str:
        """The package that is imported."""
        return self.name.replace("-", "_")

    @property
    def kind(self) -> str:
        """What a spec writes."""
        return self.name.removeprefix("tunewright-").removesuffix("-tunewright")

    @property
    def backend(self) -> str:
        """The backend's class: `acme` brings `AcmeGate`, `acme-gate` as well."""
        words, last = self.kind.split("-"), self.part.split("_")
        return "".join(word.capitalize() for word in (words if words[-len(last) :] == last else words + last))

    def fill(self, text: str) -> str:
        """A template's text with the names put in."""
        values = {
            "usage": USAGE[self.part], "options": OPTIONS.get(self.part, ""), "sample": SAMPLE.get(self.part, ""),
            "name": self.name, "part": self.part,
            "word": self.part.replace("_", " "), "kind": self.kind, "module": self.module, "class": self.backend,
            "extra": "[train]" if self.part in MODEL else "", "version": __version__.rpartition(".")[0],
        }  # fmt: skip
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        return text


def new_plugin(name: str, part: str, out: Path, host: Host) -> None:
    """Write the package and say what to do next. Raises `BadInput` where it cannot be, before anything is written."""
    if part not in PARTS:
        raise BadInput(f"there is no part `{part}`", fix=did_you_mean(part, PARTS))
    names, folder = Names(name, part), out / name
    _refuse(names, folder, host)
    for path, text in _files(names):
        disk.make_folder((folder / path).parent)
        disk.write(folder / path, text.encode())
    print(f"{folder} brings the {part.replace('_', ' ')} `{names.kind}`; its code is {names.module}/{part}.py")
    print('next: cd there, pip install -e ".[test]", python -m pytest')


def _files(names: Names) -> Iterator[tuple[str, str]]:
    """(path in the package's folder, text)."""
    own = f"test_{names.part}.py.txt"
    test = own if (TEMPLATES / own).is_file() else "test.py.txt"
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"{names.module}/__init__.py": "init.py.txt",
        f"{names.module}/{names.part}.py": f"{names.part}.py.txt",
        f"tests/test_{names.part}.py": test,
    }
    for path, template in sources.items():
        yield path, names.fill((TEMPLATES / template).read_text("utf-8"))


def _refuse(names: Names, folder: Path, host: Host) -> None:
    if not NAME.fullmatch(names.name):
        fix = re.sub(r"[^a-z0-9]+", "-", names.name.lower()).strip("-0123456789")
        fix = f"as in `{fix}`" if NAME.fullmatch(fix) else "as in `acme-tunewright`"
        raise BadInput(f"`{names.name}` cannot name a package: small letters, digits and single dashes do", fix=fix)
    if keyword.iskeyword(names.module) or importlib.util.find_spec(names.module) is not None:
        why = "is a word of Python" if keyword.iskeyword(names.module) else "can be imported already"
        fix = "choose another name" if "tunewright" in names.name else f"as in `{names.name}-tunewright`"
        raise BadInput(f"`{names.module}` {why}: a plugin of that name would hide it", fix=fix)
    taken = host.table.get(f"{names.part}/{names.kind}")
    if taken is not None or names.kind in host.plugins:
        what = f"`{names.part}/{names.kind}`" if taken else f"the plugin `{names.kind}`"
        owner = taken.distribution if taken else host.plugins[names.kind][0]
        raise BadInput(f"{what} is brought by {owner} already", fix="choose another name: each must mean one thing")
    if folder.exists():
        raise BadInput(f"{folder} is there already", fix="choose another name, or another folder by --out")
