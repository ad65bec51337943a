"""A plugin that cannot be used is a fault with its name; everything else goes on."""

from __future__ import annotations

from types import ModuleType

import pytest

from tunewright.errors import BadInput, EnvironmentFault
from tunewright.host import Host, hookimpl


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
    from fake_project import FIRST_PARTY
    from tunewright.project import Project

    def rule(spec, facts):
        raise KeyError("email")

    made = Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"acme": plugin(tunewright_check_spec=rule)}))
    with pytest.raises(EnvironmentFault, match=r"plugin `acme`.*KeyError"):
        made.validate()


def test_a_rule_about_all_rows_sees_them_all_before_anything_runs(fake_spec, fakes):
    from fake_project import FIRST_PARTY
    from tunewright.parts import Finding
    from tunewright.project import Project
    from tunewright.spec.problems import SpecError

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
    from fake_project import FIRST_PARTY
    from tunewright.project import Project

    listener = plugin(tunewright_run_event=lambda event: None)
    idle = plugin()
    made = Project(fake_spec, host=Host(blocked=FIRST_PARTY, extra={"ear": listener, "idle": idle}))
    assert made.plan().lock["locked"]["plugins"] == {"this process": "", "tunewright-fakes": "1.0"}
    made.host = Host(blocked=FIRST_PARTY, extra={"idle": idle})
    assert made.plan().lock["locked"]["plugins"] == {"tunewright-fakes": "1.0"}
