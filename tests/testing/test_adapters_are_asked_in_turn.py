"""`Engine.open_several` as an engine has it that does not make its own: each is opened alone, whatever the order."""

from __future__ import annotations

import kit_sound
import pytest

from tunewright.errors import TunewrightError
from tunewright.parts.engine import Served
from tunewright.parts.several import Asked
from tunewright.testing.samples import ROWS, question

NAMES = ("one", "two", "three")


@pytest.fixture
def world():
    return kit_sound.world(fakes=True)


@pytest.fixture
def adapters(world, tmp_path):
    folders = {name: tmp_path / name for name in NAMES}
    for folder in folders.values():
        folder.mkdir()
    world.trained_apart(folders.values())
    return folders


def test_each_answers_as_by_itself_and_where_it_was_asked(world, adapters):
    served = Served(world.base, world.loader, world.quantizer, world.dtype, world.method)
    prompts = [question(row) for row in ROWS[:3]]
    order = [None, "two", "one", None, "three", "one", None]
    asked = [Asked(prompt, name) for name in order for prompt in prompts]
    with world.engine.open_several(served, adapters) as several:
        found = several.complete(asked, 8)
    alone = {}
    for name in (None, *NAMES):
        one = served._replace(method=None) if name is None else served._replace(trained=adapters[name])
        with world.engine.open(one) as subject:
            alone[name] = subject.complete(prompts, 8)
    assert found == [answer for name in order for answer in alone[name]]
    assert alone[None] != alone["one"]  # else nothing could be mixed up


def test_an_adapter_that_is_not_there_does_not_answer(world, adapters):
    served = Served(world.base, world.loader, world.quantizer, world.dtype, world.method)
    with world.engine.open_several(served, adapters) as several, pytest.raises(TunewrightError, match="four"):
        several.complete([Asked(question(ROWS[0]), "four")], 8)
