"""A plugin that cannot be used is a fault with its name; everything else goes on."""

from __future__ import annotations

from types import ModuleType

import pytest

from fake_project import FIRST_PARTY
from tunewright.errors import BadInput, EnvironmentFault, MissingExtra
from tunewright.host import Host, hookimpl
from tunewright.parts import Finding
from tunewright.project import Project
from tunewright.spec.problems import SpecError


def plugin(**hooks):
    module = ModuleType("mine")
    vars(module).update({name: hookimpl(function) for name, function in hooks.items()})
    return module


def host(**plugins):
    return Host(extra=plugins)


def test_first_party_plugins_come_in_by_the_entry_point():
    table = Host().table
    assert table["trainer/sft"].distribution == "tunewright"
    assert table["trainer/sft"].plugin == "trl"


def test_discovery_finds_what_importlib_metadata_finds():
    from importlib.metadata import entry_points

    from tunewright import discovery

    ours = {(point.name, point.value) for point in discovery.entry_points("console_scripts")}
    assert ours == {(point.name, point.value) for point in entry_points(group="console_scripts")}
    assert {p.distribution for p in discovery.entry_points("tunewright")} == {"tunewright"}


def test_a_blocked_plugin_brings_nothing():
    assert "trainer/sft" not in Host(blocked=("trl",)).table


def test_a_kind_that_two_plugins_bring_is_a_fault_of_the_second():
    found = host(mine=plugin(tunewright_backends=lambda: {"trainer/sft": "x:Y"}))
    (fault,) = found.faults
    assert (fault.plugin, "already registered by `tunewright`" in fault.why) == ("mine", True)
    assert found.table["trainer/sft"].plugin == "trl"


def test_a_misspelt_hook_is_a_fault():
    (fault,) = host(mine=plugin(tunewright_backend=lambda: {"trainer/x": "x:Y"})).faults
    assert "tunewright_backend" in fault.why


def test_a_hook_with_a_wrong_signature_is_a_fault():
    (fault,) = host(mine=plugin(tunewright_backends=lambda spec: {})).faults
    assert "Argument(s) {'spec'}" in fault.why


def test_a_plugin_that_raises_at_import_is_a_fault_and_others_stay(tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("import no_such_library")
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tunewright]\nbroken = broken_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Host()
    assert [(fault.plugin, fault.distribution) for fault in found.faults] == [("broken", "broken")]
    assert "no_such_library" in found.faults[0].why
    assert "trainer/sft" in found.table


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tunewright.parts:PARTS", "is not a Trainer"),
        ("tunewright.parts:Nothing", "has no `Nothing`"),
        ("tunewright.parts.trainer:Trainer", "calls itself"),
        ("no_such_module:X", "no_such_module"),
    ],
)
def test_a_target_that_is_no_backend_names_its_plugin(target, said):
    found = host(mine=plugin(tunewright_backends=lambda: {"trainer/mine": target}))
    with pytest.raises(EnvironmentFault, match="mine") as caught:
        found.backend("trainer", "mine")
    assert said in str(caught.value)


def test_a_kind_that_nobody_brings_names_those_that_are_there():
    with pytest.raises(BadInput, match="sft"):
        Host().backend("trainer", "ppo")


def installed(folder, name, text, needs=""):
    """A distribution of one module, as pip would lay it out."""
    (folder / f"{name}_plugin.py").write_text(text)
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{requires}\nThe description.\n")
    (info / "entry_points.txt").write_text(f"[tunewright]\n{name} = {name}_plugin\n")


@pytest.mark.parametrize(
    ("needs", "usable"), [("tunewright>=99", False), ("tunewright<1", True), ("tunewright-x>=9", True)]
)
def test_a_plugin_for_another_release_is_a_fault_that_names_both(tmp_path, monkeypatch, needs, usable):
    installed(tmp_path, "acme", "", needs)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [(fault.plugin, fault.distribution, fault.why) for fault in Host().faults]
    assert found == ([] if usable else [("acme", "acme", "needs tunewright>=99, this is 0.1.0")])


def test_two_distributions_with_one_plugin_name_are_a_fault_of_the_second(tmp_path, monkeypatch):
    installed(tmp_path, "zeta", "")
    (tmp_path / "zeta-1.dist-info" / "entry_points.txt").write_text("[tunewright]\nfiles = zeta_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Host()
    (fault,) = found.faults
    assert "called `files`" in fault.why
    assert {fault.distribution, *fault.why.split()} >= {"zeta", "tunewright"} or "data_source/csv" in found.table


def test_a_hook_without_its_marker_is_a_fault_since_nobody_would_call_it():
    module = ModuleType("mine")
    exec("def tunewright_check_spec(spec, facts): ...", vars(module))
    (fault,) = host(mine=module).faults
    assert "not marked with `@hookimpl`" in fault.why


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"trainers/x": "a:B"}, "did you mean `trainer`?"),
        ({"trainer/x": "a.b"}, "is not of the form"),
        ({"x": "a:B"}, "is not of the form"),
        ({"trainer/x": None}, "is not of the form"),
    ],
)
def test_a_malformed_line_of_a_table_is_a_fault(table, said):
    (fault,) = host(mine=plugin(tunewright_backends=lambda: table)).faults
    assert said in fault.why


def test_a_client_rule_that_breaks_names_its_plugin(fake_spec, fakes):
    def rule(spec, facts):
        raise KeyError("email")

    made = Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"acme": plugin(tunewright_check_spec=rule)}))
    with pytest.raises(EnvironmentFault, match=r"plugin `acme`.*KeyError"):
        made.validate()


def test_a_rule_about_all_rows_sees_them_all_before_anything_runs(fake_spec, fakes):
    def rule(spec, facts):
        for place, rows in enumerate(facts.rows if facts.complete else ()):
            for row in rows:
                if "broken" in row.fields["text"]:
                    yield Finding("acme-no-broken", f"{row.origin} says broken", f"data.train.{place}.path")

    made = Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"acme": plugin(tunewright_check_spec=rule)}))
    assert made.validate() == []
    with pytest.raises(SpecError) as caught:
        made.plan()
    (problem,) = caught.value.problems
    assert (problem.code, problem.message) == ("acme-no-broken", "train.csv:4 says broken")
    assert (problem.position.line, problem.position.column) == (8, 30)


def test_the_lock_names_every_plugin_that_took_part(fake_spec, fakes):
    listener = plugin(tunewright_run_event=lambda event: None)
    idle = plugin()
    made = Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"ear": listener, "idle": idle}))
    assert made.plan().lock["locked"]["plugins"] == {"this process": "", "tunewright-fakes": "1.0"}
    made.host = Host(blocked=FIRST_PARTY, extra={"idle": idle})
    assert made.plan().lock["locked"]["plugins"] == {"tunewright-fakes": "1.0"}


def test_a_plugin_that_is_refused_leaves_those_after_it_alone():
    bad = plugin(tunewright_backend=lambda: {"trainer/x": "x:Y"})
    found = host(bad=bad, good=plugin(tunewright_backends=lambda: {"trainer/mine": "x:Y"}))
    assert [fault.plugin for fault in found.faults] == ["bad"]
    assert found.table["trainer/mine"].plugin == "good"


def test_a_hook_that_raises_is_a_fault_in_one_line_that_is_the_same_every_time():
    class Here:
        pass

    def raises():
        raise KeyError(Here(), "\n")

    (fault,) = host(mine=plugin(tunewright_backends=raises)).faults
    assert "Here object" in fault.why
    assert "0x" not in fault.why and "\n" not in fault.why


def test_what_the_caller_names_goes_before_the_environments_list(monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_PLUGINS", " files , basics, ")
    assert set(Host().plugins) == {"basics", "files"}
    assert set(Host(only=("trl", "peft"), blocked=("peft",)).plugins) == {"trl"}
    monkeypatch.setenv("TUNEWRIGHT_PLUGINS", "")
    assert Host().plugins == {}


def test_a_library_that_is_not_installed_is_named_with_who_brings_it(tmp_path, monkeypatch):
    (tmp_path / "needy_plugin.py").write_text("import no_such_library")
    (tmp_path / "needy_plugin_sub.py").write_text("import needy_plugin_sub_gone")
    monkeypatch.syspath_prepend(str(tmp_path))
    table = {"trainer/needy": "needy_plugin:X", "trainer/torn": "needy_plugin_sub:X"}
    found = host(mine=plugin(tunewright_backends=lambda: table))
    with pytest.raises(EnvironmentFault, match=r"`trainer/needy` of this process needs `no_such_library`") as caught:
        found.backend("trainer", "needy")
    assert "which extra brings it" in caught.value.fix
    assert not isinstance(caught.value, MissingExtra)
    with pytest.raises(EnvironmentFault, match=r"plugin `mine` .*failed"):  # its own module, not a library
        found.backend("trainer", "torn")
    found.table["trainer/needy"] = found.table["trainer/needy"]._replace(distribution="tunewright")
    with pytest.raises(MissingExtra, match=r"no_such_library") as ours:
        found.backend("trainer", "needy")
    assert 'pip install "tunewright[train]"' in ours.value.fix


def test_a_plugin_made_for_this_very_release_candidate_is_taken(tmp_path, monkeypatch):
    installed(tmp_path, "acme", "", "tunewright>=0.0.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("tunewright.host.__version__", "0.2.0rc1")
    assert Host().faults == []


def broken_kinds(*kinds):
    """A host in which each of the given `part/kind`s needs a library that is not there."""
    table = dict.fromkeys(kinds, "no_such_module:X")
    return Host(blocked=FIRST_PARTY, extra={"acme": plugin(tunewright_backends=lambda: table)})


def test_a_library_that_is_missing_is_said_alone_where_the_spec_is_fine(fake_spec, fakes):
    fake_spec.write_text(fake_spec.read_text().replace("trainer: {kind: fake, learning_rate: 0.5}", "trainer: mine"))
    made = Project(fake_spec, host=broken_kinds("trainer/mine"))
    with pytest.raises(EnvironmentFault, match=r"plugin `acme` .*no_such_module"):
        made.validate()


def test_a_library_that_is_missing_hides_no_other_problem(fake_spec, fakes):
    text = fake_spec.read_text().replace("trainer: {kind: fake, learning_rate: 0.5}", "trainer: mine")
    fake_spec.write_text(text.replace("adapter: {kind: fake}", "adapter: {kind: fake, rank: 8}"))
    made = Project(fake_spec, host=broken_kinds("trainer/mine", "gate/mine"))
    assert [(p.position.line, p.code) for p in made.validate()] == [(5, "unknown-key"), (10, "bad-plugin")]
    fake_spec.write_text(text.replace("{kind: fake, metric: fake.right, at_least: 0.5}", "mine"))
    assert [(p.position.line, p.code) for p in made.validate()] == [(10, "bad-plugin"), (12, "bad-plugin")]


def test_a_kind_that_a_broken_plugin_would_have_brought_is_said_with_its_reason(fake_spec, tmp_path, monkeypatch):
    installed(tmp_path, "torn", "import no_such_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    fake_spec.write_text("apiVersion: tunewright/v1\nname: x\nmodel: {source: {kind: pypi}}\nadapter: sparse\n")
    bad = {"adapter/sparse": "not a target"}
    said = [p.message for p in Project(fake_spec, host=Host()).validate() if p.code == "unknown-kind"]
    assert said == [
        "`sparse` is not an installed adapter (plugin `torn` of torn could not be loaded: "
        "import failed: ModuleNotFoundError: No module named 'no_such_library')"
    ]
    other = Host(extra={"mine": plugin(tunewright_backends=lambda: bad)})
    (named,) = [p.message for p in Project(fake_spec, host=other).validate() if p.code == "unknown-kind"]
    assert "plugin `mine` of this process could not be loaded: `adapter/sparse: not a target`" in named


def test_a_finding_may_stand_at_the_key_and_a_rule_may_refuse_by_itself(fake_spec, fakes):
    def rule(spec, facts):
        yield Finding("acme-seed", "seeds are ours to choose", "seed", at_key=True)

    acme = {"acme": plugin(tunewright_check_spec=rule)}
    (problem,) = Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra=acme)).validate()
    assert (problem.position.line, problem.position.column) == (13, 1)

    def refuses(spec, facts):
        raise BadInput("the client list is out of date", fix="fetch it anew")

    acme = {"acme": plugin(tunewright_check_spec=refuses)}
    with pytest.raises(BadInput, match=r"^the client list is out of date"):
        Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra=acme)).validate()
