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
