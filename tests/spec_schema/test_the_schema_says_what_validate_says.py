"""The JSON Schema of a spec refuses what `validate` refuses, where JSON Schema can say it, and nothing more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from fake_project import FAKE_SPEC
from tunewright.project import Project
from tunewright.schema import installed_schema, published_schema, to_text
from tunewright.spec.document import parse

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "specs" / "tunewright.schema.json"
SPECS = sorted([*(ROOT / "specs").rglob("*.yaml"), *(ROOT / "tests" / "realdata").glob("*.yaml")])
QUICKSTART = ROOT / "specs" / "quickstart"


def read(path):
    return parse(path.read_text(), str(path), path.parent).data


def complaint(spec, schema=None):
    """What `jsonschema` finds worst: the way to it and the message, or None."""
    validator = Draft202012Validator(schema or json.loads(PUBLISHED.read_text()))
    error = best_match(validator.iter_errors(spec))
    return error and f"{error.json_path}: {error.message}"


def quickstart():
    spec = read(QUICKSTART / "quickstart.yaml")
    for source in (*spec["data"]["train"], *spec["data"]["test"]):
        source["path"] = str(QUICKSTART / source["path"])
    return spec


def changed(spec, way, value):
    """The spec with one value in another's place; `...` takes the key away."""
    *path, last = way
    node = spec
    for step in path:
        node = node[step]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return spec


def validated(spec, folder):
    """What `validate` finds in a spec: a JSON file is YAML too."""
    path = folder / "client.yaml"
    path.write_text(json.dumps(spec))
    return Project.from_spec(path).validate()


def test_the_published_schema_is_what_the_models_say_now():
    described = published_schema()
    assert described.left_out == {}
    assert PUBLISHED.read_text() == to_text(described.schema), "run `make reference`"


def test_the_published_schema_is_a_schema_of_its_draft():
    schema = json.loads(PUBLISHED.read_text())
    Draft202012Validator.check_schema(schema)
    assert (schema["$schema"], schema["$id"]) == (
        "https://json-schema.org/draft/2020-12/schema",
        "urn:tunewright:v1",
    )


def test_every_part_of_the_spec_has_its_contract():
    assert "part" not in json.loads(PUBLISHED.read_text())["$defs"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_of_the_project_is_good_and_names_the_schema(path):
    assert complaint(read(path)) is None
    (target,) = re.findall(r"\A# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert (path.parent / target).resolve() == PUBLISHED


def test_the_recursive_glob_finds_specs():
    assert {"quickstart", "banking77"} <= {path.stem for path in SPECS}


MISTAKES = [
    (("adaptr",), {"kind": "lora"}, "'adaptr' was unexpected"),
    (("trainer", "learing_rate"), 2e-4, "'learing_rate' was unexpected"),
    (("data", "tset"), [], "'tset' was unexpected"),
    (("data", "train", 0, "pth"), "a.csv", "'pth' was unexpected"),
    (("quantization", "kind"), "nf5", "'nf5' is not one of"),
    (("quantization",), "nf5", "'nf5' is not one of"),
    (("trainer",), "sfft", "'sfft' is not one of"),
    (("data", "train", 0), "csv", "not of type 'object'"),
    (("data", "train", 0, "path"), ..., "'path' is a required property"),
    (("data", "format"), ..., "'format' is a required property"),
    (("trainer", "kind"), ..., "'kind' is a required property"),
    (("adapter",), ..., "'adapter' is a required property"),
    (("apiVersion",), ..., "'apiVersion' is a required property"),
    (("apiVersion",), "tunewright/v2", "'tunewright/v1' was expected"),
    (("trainer", "batch_size"), True, "not of type 'integer'"),
    (("trainer", "batch_size"), "8", "not of type 'integer'"),
    (("trainer", "epochs"), True, "not of type 'number'"),
    (("trainer", "warmup_steps"), -1, "-1 is less than the minimum"),
    (("quantization", "double_quant"), 1, "not of type 'boolean'"),
    (("quantization", "double_quant"), "true", "not of type 'boolean'"),
    (("trainer", "epochs"), 0, "0 is less than or equal to the minimum"),
    (("adapter", "dropout"), 1.0, "1.0 is greater than or equal to the maximum"),
    (("seed",), -1, "-1 is less than the minimum"),
    (("name",), "Acme Desk", "does not match"),
    (("trainer", "optimizer"), "adam", "'adam' is not one of"),
    (("evals", 0, "metrics"), [], "should be non-empty"),
    (("data", "train"), {"kind": "csv"}, "not of type 'array'"),
    (("evals", 0, "metrics"), ["accuracy"], "'accuracy' is not one of"),
    (("package", "version"), "1", "does not match"),
    (("model",), {"source": {"kind": "hub", "repo": "org/name", "token": "hf_literal"}}, "does not match"),
]


@pytest.mark.parametrize(("way", "value", "said"), MISTAKES, ids=lambda part: json.dumps(part, default=str)[:40])
def test_a_mistake_is_refused_by_both(way, value, said, tmp_path):
    spec = changed(quickstart(), way, value)
    found = complaint(spec)
    assert found is not None
    assert said in found
    assert validated(spec, tmp_path)


GOOD = [
    (("trainer", "epochs"), 2),
    (("trainer", "warmup_steps"), 0.1),
    (("trainer", "args"), {"adam_beta2": 0.99}),
    (("quantization",), "nf4"),
    (("quantization",), None),
    (("quantization",), ...),
    (("adapter", "targets"), ["q_proj"]),
    (("model", "source"), "pypi"),
    (("data", "train", 0, "where"), {"queue": ["billing", "returns"]}),
    (("exports",), ["adapter"]),
]


@pytest.mark.parametrize(("way", "value"), GOOD, ids=lambda part: json.dumps(part, default=str)[:40])
def test_what_validate_takes_the_schema_takes(way, value, tmp_path):
    spec = changed(quickstart(), way, value)
    assert validated(spec, tmp_path) == []
    assert complaint(spec) is None


SERVED = {"url": "http://127.0.0.1:9/v1", "model": "large", "prompts": "messages"}


@pytest.mark.parametrize(
    "one",
    [
        {},
        {"name": "lonely"},
        {"few_shot": 0},
        {"few_shots": 5},
        {"endpoint": {"urll": "x"}},
        {"endpoint": {"model": "large"}},
        {"endpoint": {**SERVED, "urll": "x"}},
        {"endpoints": SERVED},
        {"engine": {"url": "http://127.0.0.1:9/v1", "model": "large"}},
        {"engine": {"kind": "endpoint", "prompts": "messages"}},
        "bse",
    ],
    ids=json.dumps,
)
def test_a_mistake_in_a_baseline_is_refused_by_both(one, tmp_path):
    spec = changed(quickstart(), ("baselines",), [one])
    assert complaint(spec) is not None
    assert validated(spec, tmp_path)


@pytest.mark.parametrize(
    "one",
    [
        "base",
        {"few_shot": 2},
        {"endpoint": SERVED},
        {"engine": {"kind": "endpoint", **SERVED}},
        {"name": "big", "few_shot": 3, "endpoint": SERVED},
        {"name": "own", "transformers": {}},
        {"engine": "transformers"},
    ],
    ids=json.dumps,
)
def test_a_baseline_that_validate_takes_the_schema_takes(one, tmp_path):
    spec = changed(quickstart(), ("baselines",), [one])
    assert validated(spec, tmp_path) == []
    assert complaint(spec) is None


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ({"trainer": {"epochs": 3}}, None),
        ({"data": {"format": {"kind": "chat", "system": "Be brief."}}}, None),
        ({"package": {"version": "2.0.0"}}, None),
        ({"trainer": {"kind": "sft", "epchs": 3}}, "'epchs' was unexpected"),
        ({"tariner": {}}, "'tariner' was unexpected"),
        # the items of a list are never merged with the base's
        ({"gates": [{"kind": "threshold", "at_least": 0.5}]}, "'metric' is a required property"),
        ({"data": {"test": [{"path": "test.csv"}]}}, "'kind' is a required property"),
    ],
)
def test_a_spec_that_extends_another_may_lack_what_the_other_has(child, said):
    found = complaint({"extends": "base.yaml", **child})
    assert (found is None) if said is None else (said in found)


def test_the_kinds_of_a_third_party_are_in_the_schema_of_what_is_installed(fake_host):
    schema = installed_schema(fake_host).schema
    spec = parse(FAKE_SPEC, "client.yaml", Path()).data
    assert complaint(spec, schema) is None
    assert "'rate' was unexpected" in complaint(changed(spec, ("trainer", "rate"), 1.0), schema)
    assert schema["x-tunewright"]["plugins"] == {"fakes": {"distribution": "tunewright-fakes", "version": "1.0"}}


def test_the_published_schema_has_nothing_of_a_third_party(fakes):
    assert to_text(published_schema().schema) == PUBLISHED.read_text()
