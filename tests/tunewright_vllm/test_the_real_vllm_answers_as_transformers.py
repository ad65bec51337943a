"""The real vLLM over tiny models, in fp32: its tokens and log-probabilities are those of plain transformers and peft.

Needs `tunewright engines install vllm`; `make engines` runs it. A server takes most of a minute to start: few are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tiny import backend
from tunewright.errors import BadInput
from tunewright.parts.engine import Continuation, Served
from tunewright.parts.several import Asked
from tunewright.testing import tiny_world
from tunewright.testing.samples import ROWS, question
from tunewright.testing.tiny import World
from tunewright_vllm.engine import Vllm, VllmEngineOptions

LACKING = Vllm(VllmEngineOptions()).lacking()
pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
]

ADAPTERS = tuple(f"client-{number}" for number in range(8))
PROMPTS = [question(ROWS[0]), question(ROWS[1]), "where is my parcel", question(ROWS[2])]
LIMIT, TOP = 12, 4
NEAR = 1e-3  # nats


class Trained(NamedTuple):
    """A base with adapters that lie in folders, no two alike, and what transformers answers by each."""

    served: Served
    adapters: dict[str, Any]
    answers: dict[str | None, list[Any]]
    rows: dict[str | None, list[Continuation]]
    scores: dict[str | None, Any]
    likeliest: dict[str | None, Any]

    def of(self, name: str | None) -> Served:
        """The base alone, or with one adapter."""
        return _of(self.served, self.adapters, name)


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """`trained("qwen2")`: made once a module. Heads are 32 wide: vLLM's attention on a CPU takes none that is less."""
    known: dict[str, Trained] = {}

    def make(family: str) -> Trained:
        if family not in known:
            known[family] = _trained(tiny_folder(family, heads=2), tmp_path_factory.mktemp(f"adapters-{family}"))
        return known[family]

    return make


def _trained(base, folder) -> Trained:
    tiny = tiny_world()
    world = World(base, tiny.loader, tiny.quantizer, tiny.method, tiny.engine)
    adapters = {name: folder / name for name in ADAPTERS}
    for path in adapters.values():
        path.mkdir()
    world.trained_apart(adapters.values())
    made = Trained(Served(base, world.loader, world.quantizer, "fp32", world.method), adapters, {}, {}, {}, {})
    for name in (None, *ADAPTERS):
        with world.engine.open(made.of(name)) as plain:
            made.answers[name] = plain.complete(PROMPTS, LIMIT, together=False)
            made.rows[name] = [Continuation(one.prompt_ids, one.ids) for one in made.answers[None]]
            made.scores[name] = plain.score(made.rows[name])
            made.likeliest[name] = plain.likeliest(made.rows[name], TOP)
    return made


def _of(served: Served, adapters: dict[str, Any], name: str | None) -> Served:
    return served._replace(method=None) if name is None else served._replace(trained=adapters[name])


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_base_and_eight_adapters_answer_in_mixed_order(trained, family):
    """Each row by its own adapter and those of the base by none: vLLM's own code for a CPU answers them by the last."""
    made = trained(family)
    assert len({str([vars(one) for one in answers]) for answers in made.answers.values()}) == 9, "no two are alike"
    order = [None, *ADAPTERS[::2], None, *ADAPTERS[1::2], None] * 3
    asked = [Asked(PROMPTS[place % 4], name) for place, name in enumerate(order)]
    heard: list[int] = []
    with backend(Vllm).open_several(made.served, made.adapters) as several:
        found = several.complete(asked, LIMIT, heard.append)
        again = several.complete(asked[::-1], LIMIT, together=False)[::-1]
        with pytest.raises(BadInput, match="no adapter `client-9`"):
            several.complete([Asked(PROMPTS[0], "client-9")], 1)
    for one, answer, alone in zip(asked, found, again, strict=True):
        expected = vars(made.answers[one.adapter][PROMPTS.index(one.prompt)])
        assert (one.adapter, vars(answer)) == (one.adapter, expected)
        assert (one.adapter, vars(alone)) == (one.adapter, expected)
    assert heard == list(range(1, len(asked) + 1))


@pytest.mark.parametrize("name", [None, ADAPTERS[5]])
def test_answers_and_chances_of_one_are_those_of_transformers(trained, name):
    made = trained("llama")
    with backend(Vllm).open(made.of(name)) as subject:
        assert [vars(one) for one in subject.complete(PROMPTS, LIMIT)] == [vars(one) for one in made.answers[name]]
        for together in (True, False):
            for one, other in zip(subject.score(made.rows[name], together=together), made.scores[name], strict=True):
                assert one == pytest.approx(other, abs=NEAR)
        for row, others in zip(subject.likeliest(made.rows[name], TOP), made.likeliest[name], strict=True):
            for one, other in zip(row, others, strict=True):
                assert one == pytest.approx(other, abs=NEAR)
        with pytest.raises(BadInput, match=r"model's context|context length|longer"):
            subject.score([Continuation([5], [6] * 4096)])
