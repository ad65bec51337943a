"""The base and eight adapters beside it, asked in mixed order: each answers as PEFT's model does alone."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import backend
from tunewright.errors import BadInput
from tunewright.parts.engine import Served
from tunewright.parts.several import Asked
from tunewright_peft.lora import Lora
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

NAMES = tuple(f"client-{number}" for number in range(8))
PROMPTS = [[{"role": "user", "content": text}] for text in ("where is my parcel", "hi", "the card was declined twice")]
LIMIT = 10
LORA = backend(Lora, r=4, alpha=8)


def loaded(base):
    return backend(TransformersLoader).model(base, backend(NoQuantizer), "fp32", "train")


@pytest.fixture(scope="module")
def adapters(tiny_folder, tmp_path_factory):
    folders = {}
    for seed, name in enumerate(NAMES):
        model = LORA.wrap(loaded(tiny_folder()), None)
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        folders[name] = tmp_path_factory.mktemp("saved") / name
        folders[name].mkdir()
        LORA.save(model, folders[name])
    return folders


def plainly(base, adapter):
    """What the libraries alone answer, one prompt at a time."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = model.generate(**ids, max_new_tokens=LIMIT, do_sample=False, pad_token_id=2)
        yield made[0, ids["input_ids"].shape[1] :].tolist()


def test_in_mixed_order_the_base_among_them(tiny_folder, adapters):
    order = [None, *NAMES[::2], None, *NAMES[1::2], None]
    asked = [Asked(prompt, name) for prompt in PROMPTS for name in order]
    served = Served(tiny_folder(), backend(TransformersLoader), backend(NoQuantizer), "fp32", LORA)
    with backend(TransformersEngine).open_several(served, adapters) as several:
        found = several.complete(asked, LIMIT)
        with pytest.raises(BadInput, match="client-9"):
            several.complete([Asked(PROMPTS[0], "client-9")], LIMIT)
    alone = {name: list(plainly(tiny_folder(), name and adapters[name])) for name in (None, *NAMES)}
    assert [answer.ids for answer in found] == [alone[name][place] for place in range(len(PROMPTS)) for name in order]
    assert len({str(answers) for answers in alone.values()}) == 1 + len(NAMES), "else nothing could be mixed up"
