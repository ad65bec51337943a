"""A base of which nothing is known before it is pinned is checked by the same rules right after."""

from __future__ import annotations

from types import ModuleType

import pytest

from fake_project import FIRST_PARTY
from tunewright.host import Host, hookimpl
from tunewright.project import Project
from tunewright.spec.problems import SpecError


@pytest.fixture
def late(fakes, monkeypatch):
    """A host with the fakes and a source that knows its config and licence after `pin`."""
    import sys

    import tunewright_fakes as f

    class Options(f.KindOnly):
        kind: str = "late"

    class Late(f.FakeSource):
        kind = "late"
        pinned = False

        def pin(self):
            Late.pinned = True
            return super().pin()

        def config(self):
            return {"max_position_embeddings": 100} if Late.pinned else None

        @property
        def license(self):
            return "llama3.1" if Late.pinned else ""

    Late.Options = Options
    module = ModuleType("late_plugin")
    module.Late = Late
    module.tunewright_backends = hookimpl(lambda: {"model_source/late": "late_plugin:Late"})
    monkeypatch.setitem(sys.modules, "late_plugin", module)
    return Host(blocked=FIRST_PARTY, extra={"late": module})


def test_what_the_pin_tells_is_checked_before_anything_is_fetched(fake_spec, late):
    overrides = ["model.source=late", "package.license=Apache-2.0", "trainer.max_length=101"]
    project = Project(fake_spec, overrides, late)
    assert project.validate() == []
    with pytest.raises(SpecError) as caught:
        project.plan()
    assert sorted(problem.code for problem in caught.value.problems) == ["length-beyond-model", "license-clash"]


def test_a_second_plan_of_the_same_spec_has_the_same_keys(fake_spec, late):
    project = Project(fake_spec, ["model.source=late", "trainer.max_length=64"], late)
    first = project.plan()
    assert project.plan().keys == first.keys
    assert first.resolved.facts.model_config == {"max_position_embeddings": 100}
