"""`engine:` in an evaluation: who asks, what stands in the key, and what is believed of weights that nobody sees."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import tunewright_endpoint
from endpoint_server import serving
from fake_project import FIRST_PARTY
from tunewright.errors import BadInput, EnvironmentFault, Refused, TunewrightWarning
from tunewright.host import Host, hookimpl
from tunewright.parts import Cap, Engine, Finding, Need
from tunewright.pipeline.predict import open_tuned
from tunewright.pipeline.tasks.evaluate import _moved
from tunewright.project import Project
from tunewright.spec.problems import SpecError
from tunewright.store.publish import Store


@pytest.fixture
def opened(fakes, monkeypatch):
    """Engines `blind` and `deaf` beside the fake one; each note of an opened model is (kind, what was opened)."""
    import tunewright_fakes

    notes = []

    class BlindOptions(tunewright_fakes.KindOnly):
        kind: str = "blind"
        ignores: bool = False
        lacks: str = ""

    class Blind(tunewright_fakes.FakeEngine):
        """Asks a model that it never sees; it may leave out what was trained."""

        kind, Options, reads = "blind", BlindOptions, frozenset({"ignores", "lacks"})
        sees_weights = False

        def lacking(self):
            return self.options.lacks or None

        @contextmanager
        def open(self, served):
            notes.append((self.kind, "base" if served.trained is None else "tuned"))
            if self.options.ignores:
                served = served._replace(method=None, trained=None)
            with super().open(served) as subject:
                subject.identity = "blind:somewhere"
                yield subject

    class DeafOptions(tunewright_fakes.KindOnly):
        kind: str = "deaf"

    class Deaf(tunewright_fakes.FakeEngine):
        kind, Options = "deaf", DeafOptions

        def offers(self):
            return frozenset()

        def needs(self):
            yield Need("quantizer", Cap.TRAINABLE, "engine-opens-no-such-base", "take a base in 16 bits")

        def check(self, facts):
            if facts.dtype == "fp32":
                yield Finding("engine-opens-no-such-base", "it computes in 16 bits")

    class ScoresOptions(tunewright_fakes.FakeEvaluatorOptions):
        kind: str = "scores"

    class Scores(tunewright_fakes.FakeEvaluator):
        kind, Options, asks = "scores", ScoresOptions, False

        def measure(self, subject, data, progress):
            from tunewright.data.mask import prompt_ids
            from tunewright.parts.engine import Completion, Continuation
            from tunewright.parts.evaluator import Graded

            graded = []
            for item in self.items(data):
                row = Continuation(prompt_ids(item.prompt, subject.tokenizer), [ord(item.reference[0])])
                (value,) = subject.score([row])
                answer = Completion(row.answer, item.reference[0], "given", row.prompt)
                graded.append(Graded(item, answer, {"right": value[0]}))
            return graded

    module = SimpleNamespace(Blind=Blind, Deaf=Deaf, Scores=Scores, __name__="engines_of_the_test")
    keys = {"engine/blind": "Blind", "engine/deaf": "Deaf", "evaluator/scores": "Scores"}
    module.tunewright_backends = hookimpl(lambda: {key: f"engines_of_the_test:{name}" for key, name in keys.items()})
    monkeypatch.setitem(__import__("sys").modules, "engines_of_the_test", module)
    for backend in (Blind, Deaf, Scores):
        backend.__module__ = "tunewright_fakes"  # whose files are digested into the key
    return SimpleNamespace(notes=notes, module=module)


@pytest.fixture
def host(opened):
    extra = {"engines": opened.module}
    if not any(name == "endpoint" for name in Host().plugins):
        extra["endpoint"] = tunewright_endpoint
    blocked = [name for name in FIRST_PARTY if name != "endpoint"]
    made = Host(blocked=blocked, extra=extra)
    assert made.faults == []
    return made


@pytest.fixture
def run(fake_spec, host, tmp_path):
    """`run("evals=[…]")`: the summary of a run in one and the same root."""

    def go(*overrides):
        return Project(fake_spec, overrides, host).run(tmp_path / "root").summary

    return go


def statuses(summary):
    return {step["name"]: step["status"] for step in summary["steps"]}


def told(summary, side="tuned"):
    return json.loads((Path(summary["run_dir"]) / "steps" / f"evaluate-{side}" / "subject.json").read_text())["asked"]


def codes(spec, host, *overrides):
    return [problem.code for problem in Project(spec, overrides, host).validate()]


def test_each_evaluation_is_asked_with_its_own_engine_and_each_engine_opens_one_model(run, opened):
    blind = "{kind: fake, name: N, engine: {kind: blind}}"
    evals = ", ".join(["{kind: fake}", blind.replace("N", "one"), blind.replace("N", "two")])
    with pytest.warns(TunewrightWarning, match="not proven"):
        summary = run(f"evals=[{evals}]")
    assert {name: (about["engine"], about["proven"]) for name, about in told(summary).items()} == {
        "fake": ("fake", True), "one": ("blind", False), "two": ("blind", False),
    }  # fmt: skip
    assert opened.notes == [("blind", "base"), ("blind", "tuned")]
    scores = [summary["scores"][f"{name}.right"]["tuned"] for name in ("fake", "one", "two")]
    assert scores == [1.0, 1.0, 1.0]


def test_an_engine_that_asks_anew_redoes_the_evaluations_and_no_training(run):
    first = run()
    with pytest.warns(TunewrightWarning, match="not proven"):
        again = statuses(run("evals=[{kind: fake, engine: blind}]"))
    kept = ["fetch", "prepare", "contamination", "train", "export-adapter"]
    assert [name for name in again if again[name] == "cached"] == kept
    assert statuses(run()) == {**dict.fromkeys(statuses(first), "cached")}
    named = statuses(run("evals=[{kind: fake, engine: fake}]"))  # the loader's own, by its name
    assert named["evaluate-tuned"] == named["evaluate-base"] == "cached"


def test_which_engine_asks_for_which_evaluation_is_in_the_key(fake_spec, host, tmp_path):
    def key(*engines):
        listed = ", ".join(f"{{kind: fake, name: n{place}, engine: {one}}}" for place, one in enumerate(engines))
        plan = Project(fake_spec, [f"evals=[{listed}]", "gates=[]"], host).plan()
        return plan.keys["evaluate-base"]

    assert key("fake", "blind", "fake") != key("fake", "blind", "blind")
    assert key("fake", "blind") != key("blind", "fake")


def test_plan_and_lock_say_who_asks(fake_spec, host, tmp_path):
    plan = Project(fake_spec, ["evals=[{kind: fake}, {kind: fake, name: far, engine: blind}]"], host).plan()
    assert plan.to_json(Store(tmp_path))["asked_by"]["far"]["kind"] == "blind"
    assert plan.to_json(Store(tmp_path))["asked_by"]["fake"] == {"kind": "fake"}
    assert [one["engine"] for one in plan.lock["evals"]] == [None, {"kind": "blind", "ignores": False, "lacks": ""}]


def test_an_engine_that_left_the_adapter_out_is_refused_by_its_answers(run):
    with pytest.raises(Refused, match="answers all 3 items just as the base does") as error:
        run("evals=[{kind: fake, engine: {kind: blind, ignores: true}}]")
    assert "leave `engine` out" in error.value.fix
    assert error.value.summary["scores"] == {}


def test_an_engine_that_left_the_adapter_out_is_refused_by_its_scores(run):
    with pytest.raises(Refused, match="answers all 3 items just as the base does"):
        run("evals=[{kind: scores, engine: {kind: blind, ignores: true}}]", "gates=[]")
    with pytest.warns(TunewrightWarning, match="not proven"):
        assert run("evals=[{kind: scores, engine: blind}]", "gates=[]")["status"] == "passed"


def test_an_engine_that_cannot_score_is_refused_before_anything_runs(fake_spec, host):
    assert codes(fake_spec, host, "evals=[{kind: scores, engine: deaf}]", "gates=[]") == ["engine-cannot-score"]
    assert codes(fake_spec, host, "evals=[{kind: scores, engine: blind}]", "gates=[]") == []
    assert codes(fake_spec, host, "evals=[{kind: fake, engine: deaf}]") == []
    # another evaluation's engine is not this one's
    both = "evals=[{kind: scores}, {kind: fake, engine: deaf}]"
    assert codes(fake_spec, host, both) == []


def test_an_engine_that_cannot_open_this_base_is_refused_at_its_own_line(fake_spec, host, monkeypatch):
    import tunewright_fakes

    deaf = "evals=[{kind: fake}, {kind: fake, name: far, engine: {kind: deaf}}]"
    assert codes(fake_spec, host, deaf) == []
    (problem,) = Project(fake_spec, [deaf, "model.dtype=fp32"], host).validate()
    assert (problem.code, problem.position.column) == ("engine-opens-no-such-base", deaf.index("deaf") + 1)
    monkeypatch.setattr(tunewright_fakes.FakeQuantizer, "offers", lambda self: frozenset())
    monkeypatch.setattr(tunewright_fakes.FakeAdapter, "needs", lambda self: ())
    (problem,) = Project(fake_spec, [deaf], host).validate()
    assert problem.code == "engine-opens-no-such-base"
    assert problem.message.startswith("engine `deaf` needs a quantizer that is trainable")


def test_what_an_evaluations_engine_lacks_is_said_at_plan(fake_spec, host):
    override = "evals=[{kind: fake, engine: {kind: blind, lacks: 'install it with: pip install blind'}}]"
    with pytest.raises(EnvironmentFault, match="engine `blind`: install it with"):
        Project(fake_spec, [override], host).plan()


def test_a_misspelt_engine_stands_at_its_line(fake_spec, host):
    (problem,) = Project(fake_spec, ["evals=[{kind: fake, engine: {kind: blnd}}]"], host).validate()
    assert (problem.code, problem.suggestion) == ("unknown-kind", "did you mean `blind`?")
    assert codes(fake_spec, host, "evals=[{kind: fake, engine: {kind: blind, ignore: true}}]") == ["unknown-key"]


# --- over HTTP


@pytest.fixture
def served(run, opened, fakes, tmp_path):
    """A server of the base, and of what the first run trained."""
    import tunewright_fakes as its

    first = run()
    table = next((Path(first["run_dir"]) / "steps" / "train" / "trained").resolve().rglob("*.safetensors"))
    tuned = its.Model()
    tuned.table = json.loads(its.read_safetensors(table))
    with serving(
        base=its.FakeSubject(its.Model(), "base", its.FakeTokenizer()),
        tuned=its.FakeSubject(tuned, "tuned", its.FakeTokenizer()),
    ) as server:
        yield server


def endpoint(server, **more):
    options = {"kind": "endpoint", "url": server.url, "model": "tuned", "base_model": "base", **more}
    return f"evals=[{{kind: fake, engine: {json.dumps(options)}}}]"


def test_a_served_model_scores_as_the_one_in_the_process_and_the_report_says_what_is_not_known(run, served):
    before = run()
    with pytest.warns(TunewrightWarning, match="`endpoint:tuned`, a model that is served elsewhere"):
        summary = run(endpoint(served))
    assert summary["scores"] == before["scores"]
    assert {ask.body["model"] for ask in served.completions} == {"base", "tuned"}
    says = "that it holds what was trained here is not proven"
    assert [sentence.endswith(says) for sentence in summary["unproven"]] == [True]
    package = Path(summary["artifacts"]["package"])
    assert says in (package / "REPORT.html").read_text()
    assert says in (package / "MODEL_CARD.md").read_text()
    assert says not in Path(before["artifacts"]["report"]).read_text()


def test_a_server_that_answers_the_adapters_name_with_the_base_is_refused(run, served):
    served.subjects["tuned"] = served.subjects["base"]
    with pytest.raises(Refused, match="`endpoint:tuned` answers all 3 items just as the base does"):
        run(endpoint(served))


def test_a_name_that_is_not_served_is_refused_though_it_would_be_answered(run, served):
    served.any_name = "base"
    with pytest.raises(BadInput, match="serves no model `tuend`"):
        run(endpoint(served, model="tuend"))


def test_an_evaluation_needs_the_bases_name_too(fake_spec, host):
    override = "evals=[{kind: fake, engine: {kind: endpoint, url: 'http://127.0.0.1:9/v1', model: tuned}}]"
    assert codes(fake_spec, host, override) == ["missing-key"]
    both = override.replace("model: tuned", "model: tuned, base_model: tuned")
    (problem,) = Project(fake_spec, [both], host).validate()
    assert "base and tuned would be one model" in problem.message


def test_an_export_that_its_engine_cannot_put_on_the_base_is_refused_at_the_engines_kind(fake_spec, host, monkeypatch):
    import tunewright_fakes

    why = "export `merged`"
    monkeypatch.setattr(
        tunewright_fakes.FakeEngine, "attaching", lambda self: [Need("adapter", Cap.LLAMACPP, "no", why)]
    )
    place = "exports=[{kind: adapter, name: served, engine: {kind: blind}}]"
    problems = Project(fake_spec, ["evals=[]", "gates=[]", place], host).validate()
    assert [(one.code, one.message, one.suggestion) for one in problems] == [
        ("no", "engine `blind` needs an adapter that is loadable by llama.cpp; `fake` is not, as it stands here", why)
    ]
    assert problems[0].position.end_column - problems[0].position.column == len("blind"), "at the engine's own kind"
    monkeypatch.setattr(tunewright_fakes.FakeExporter, "attaches", False)  # a whole model is put on nothing
    assert codes(fake_spec, host, "evals=[]", "gates=[]", place) == []


def test_predict_refuses_an_engine_that_cannot_put_what_was_trained_on_its_base(run, host, tmp_path, monkeypatch):
    import tunewright_fakes

    folder = Path(run()["run_dir"])
    monkeypatch.setattr(
        tunewright_fakes.FakeEngine, "attaching", lambda self: [Need("adapter", Cap.LLAMACPP, "no", "so")]
    )
    with (
        pytest.raises(BadInput, match=r"engine `blind` needs an adapter that is loadable by llama\.cpp; `fake` is not"),
        open_tuned(folder, host, host.make("engine", {"kind": "blind"})),
    ):
        pytest.fail("it was opened")


def test_scores_need_a_server_that_takes_token_ids(fake_spec, host, served):
    by_text = endpoint(served, prompts="text").replace("kind: fake", "kind: scores")
    assert codes(fake_spec, host, by_text, "gates=[]") == ["engine-cannot-score"]


def test_an_endpoints_key_is_named_in_the_lock_and_its_value_is_nowhere(run, served, monkeypatch, tmp_path):
    monkeypatch.setenv("ACME_KEY", "sk-5e3c4e7-of-nobody")
    served.key = "sk-5e3c4e7-of-nobody"
    with pytest.warns(TunewrightWarning, match="not proven"):
        summary = run(endpoint(served, api_key="${env:ACME_KEY}"))
    assert summary["status"] == "passed"
    written = [path for path in (tmp_path / "root").rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in written if b"sk-5e3c4e7" in path.read_bytes()]
    assert any(b"${env:ACME_KEY}" in path.read_bytes() for path in written if path.name == "spec.lock.yaml")


def test_predict_asks_with_the_engine_that_is_named_and_tells_what_is_known_of_its_weights(
    run, served, fake_spec, host, tmp_path
):
    project, rows, root = (
        Project(fake_spec, host=host),
        [{"text": "my parcel"}, {"text": "the pump"}],
        tmp_path / "root",
    )
    own = list(project.predict(rows, root))
    engine = json.dumps({"kind": "endpoint", "url": served.url, "model": "tuned"})
    with pytest.warns(TunewrightWarning, match="of 3 golden prompts it answers 3 as what was trained did$"):
        assert list(project.predict(rows, root, engine)) == own == ["delivery", "repair"]
    served.subjects["tuned"] = served.subjects["base"]
    with pytest.warns(TunewrightWarning, match="answers 0 as what was trained did: it is another"):
        assert list(project.predict(rows, root, engine)) == ["I do not know."] * 2
    with pytest.raises(SpecError, match="did you mean `endpoint`"):
        project.predict(rows, root, "endpont")


def test_what_an_engine_lacks_is_said_before_predict_loads_anything(run, fake_spec, host, tmp_path, opened):
    run()
    with pytest.raises(EnvironmentFault, match="engine `blind`: install it"):
        Project(fake_spec, host=host).predict([{"text": "?"}], tmp_path / "root", "{kind: blind, lacks: install it}")
    assert opened.notes == []


def test_predict_asks_no_engine_that_would_open_another_base(run, fake_spec, host, tmp_path, opened, fakes):
    import tunewright_fakes

    run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "on_stored", property(lambda engine: engine.kind == "blind"))
        patch.setattr(tunewright_fakes.FakeQuantizer, "as_stored", lambda quantizer: False)
        with pytest.raises(BadInput, match="engine `blind` opens the base as it lies in its files, and not in `fake`"):
            Project(fake_spec, host=host).predict([{"text": "?"}], tmp_path / "root", "blind")
    assert opened.notes == []


def test_a_base_that_is_asked_in_place_of_the_tuned_model_is_found_by_what_it_thinks(fake_spec, host, tmp_path, fakes):
    """The digest is of what was put on; that it takes part is seen in the probabilities."""
    import tunewright_fakes

    @contextmanager
    def forgetful(self, served):
        bare = served.loader.model(served.base, served.quantizer, served.dtype, "infer")
        if served.method is None:
            yield tunewright_fakes.FakeSubject(bare, "base", served.tokenizer)
            return
        tuned = served.method.attach(served.loader.model(served.base, served.quantizer, served.dtype, "infer"),
                                     served.trained)  # fmt: skip
        yield tunewright_fakes.FakeSubject(bare, served.method.digest(tuned), served.tokenizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tunewright_fakes.FakeEngine, "open", forgetful)
        with pytest.raises(Refused, match="does not take part"):
            Project(fake_spec, [], host).run(tmp_path / "forgetful")


def test_what_rounding_makes_of_the_base_is_no_other_model():
    with pytest.raises(Refused, match="does not take part"):
        _moved({"fake": [[-1.0, -2.0]]}, {"fake": [[-1.0, -2.0000000001]]})
    assert _moved({"fake": [[-1.0, -2.0]]}, {"fake": [[-1.0, -2.00002]]}) == pytest.approx(1e-5)


def test_how_far_the_tuned_model_moved_is_kept(run):
    summary = run()
    assert told(summary)["fake"]["moved"] > 0
    assert told(summary, "base")["fake"]["moved"] is None
    assert "which are those of the training, and think otherwise than the base" in summary["proofs"][0]
