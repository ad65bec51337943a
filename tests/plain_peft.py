"""Open a package as a stranger would, with transformers and peft alone, and answer its golden prompts.

python plain_peft.py PACKAGE BASE      prints a JSON list of answers' token ids
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


def main(package: Path, base: Path, same_kernel: bool) -> list[list[int]]:
    manifest = json.loads((package / "manifest.json").read_text())
    quantization = manifest["quantization"]
    config = BitsAndBytesConfig.from_dict(quantization) if quantization else None
    dtype = getattr(torch, manifest["base"]["dtype"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, quantization_config=config, device_map={"": device})
    for module in model.modules():
        if same_kernel and hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model = PeftModel.from_pretrained(model, package).eval()
    tokenizer = AutoTokenizer.from_pretrained(package)
    answers = []
    for golden in json.loads((package / "prompts.json").read_text()):
        ids = tokenizer.apply_chat_template(golden["messages"], add_generation_prompt=True, return_dict=False)
        assert ids == golden["prompt_ids"], (ids, golden["prompt_ids"])
        prompt = torch.tensor([ids], device=device)
        made = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, do_sample=False
        )
        answers.append(made[0, len(ids) :].tolist())
    return answers


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), "--same-kernel" in sys.argv)))
