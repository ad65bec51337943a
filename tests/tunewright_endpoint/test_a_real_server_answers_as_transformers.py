"""`endpoint` over the real llama.cpp: as text and as messages it gives transformers' own tokens, in fp32.

Needs `tunewright engines install llama-cpp`; `make engines` runs it.
"""

from __future__ import annotations

import pytest

from tiny import backend, tiny_model
from tunewright.errors import BadInput, WorkFailed
from tunewright.parts.engine import Served
from tunewright_endpoint.engine import Endpoint
from tunewright_llamacpp.engine import LlamaCpp, LlamaCppOptions
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

LACKING = LlamaCpp(LlamaCppOptions()).lacking()
pytestmark = [pytest.mark.engines, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]

LIMIT = 12
TALKS = [[{"role": "user", "content": text}] for text in ("Where is my parcel 123?", "naïve café, 東京, 🙂")]


def test_it_answers_token_by_token_and_what_it_cannot_give_is_said(tmp_path):
    served = Served(tiny_model(tmp_path / "base"), backend(TransformersLoader), backend(NoQuantizer), "fp32")
    with backend(TransformersEngine).open(served) as own:
        expected = own.complete([*TALKS, "plain words"], LIMIT, together=False)
    with backend(LlamaCpp, cache_type="f32").open(served) as running:
        url = f"http://127.0.0.1:{running.server.port}/v1"
        name = running.server.ask("/v1/models")["data"][0]["id"]

        def asked(questions, prompts, url=url, model="tuned"):
            with backend(Endpoint, url=url, model=model, base_model=name, prompts=prompts).open(served) as subject:
                return subject.complete(questions, LIMIT)

        for prompts, questions in (("text", [*TALKS, "plain words"]), ("messages", TALKS)):
            found = asked(questions, prompts)
            assert [answer.prompt_ids for answer in found] == [answer.prompt_ids for answer in expected[: len(found)]]
            assert [answer.text for answer in found] == [answer.text for answer in expected[: len(found)]]
        with pytest.raises(WorkFailed, match="gave none back"):
            asked(TALKS, "ids")
        with pytest.raises(WorkFailed, match="gives no answer in `choices`") as told:
            asked(TALKS, "text", url.removesuffix("/v1"))  # llama.cpp's own protocol lies there
        assert "end `url` where the API begins" in told.value.fix
        unlisted = backend(Endpoint, url=url, model="tuned", base_model="base")
        with pytest.raises(BadInput, match="serves no model `base`"), unlisted.open(served):
            pass
