"""How a model folder becomes a model and a tokenizer. Nothing else here calls transformers' `from_pretrained`.

Weights come from safetensors only, code from a model's folder is never run, and the network is never asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tunewright.errors import BadInput
from tunewright.parts import Loader, Options, Quantizer
from tunewright.parts.loader import Use
from tunewright_transformers.library import library

if TYPE_CHECKING:
    from tunewright_transformers.tokenizer import ChatTokenizer

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""The spec's names of types, and torch's."""

# what reading a folder needs, said at every call: no library default decides about code or network
SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class TransformersOptions(Options):
    """Options of the loader: none so far."""

    kind: str = "transformers"


class TransformersLoader(Loader[TransformersOptions]):
    """Loads causal language models that transformers knows by their `model_type`."""

    kind, engine = "transformers", "transformers"
    Options: ClassVar = TransformersOptions
    extra = "train"
    libraries = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")

    def device(self) -> str:
        """`cuda` where torch sees a GPU, else `cpu`."""
        library()
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def tokenizer(self, path: Path) -> ChatTokenizer:
        """The tokenizer of a model folder. Raises `BadInput` where it has none."""
        from tunewright_transformers.tokenizer import ChatTokenizer, stop_ids

        native = load("AutoTokenizer", path)
        return ChatTokenizer(native, stop_ids(native, path))

    def model(self, path: Path, quantizer: Quantizer, dtype: str, use: Use) -> Any:
        """The model on this machine's device, in eval mode. Raises `BadInput` where the folder is not whole.

        A tensor that is missing or of another shape would be initialized at random without an error: it is refused.
        """
        device = self.device()  # first, since it imports the library: the quantizer's config may import it loud
        model, found = load(
            "AutoModelForCausalLM",
            path,
            dtype=DTYPES[dtype],
            quantization_config=quantizer.config(),
            device_map={"": device},
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that they are reported by name, and refused below
            output_loading_info=True,
        )
        _refuse_random(path, found)
        quantizer.prepare(model, use)
        if use == "infer":
            model.requires_grad_(False)
        return model.eval()

    def outline(self, config: Mapping[str, Any]) -> Any:
        """By transformers' own classes, which are those that `model` loads; None for a config that they do not take."""
        transformers = library()
        import torch

        try:
            with torch.device("meta"):
                of = transformers.AutoConfig.for_model(**config)
                return transformers.AutoModelForCausalLM.from_config(of, trust_remote_code=False)
        except Exception:  # whatever is wrong with it, loading says it, with the folder's name
            return None

    def caution(self, dtype: str) -> str:
        """Without such instructions a CPU multiplies value by value: on two cores with AVX2 alone, bf16 was measured at
        a seventh of fp32's speed forward and at a hundredth of it backward."""
        if dtype == "fp32" or self.device() != "cpu" or multiplies(dtype):
            return ""
        return f"this CPU has no instructions for {dtype}: a training takes ten to a hundred times as long as in fp32"

    def seed(self, seed: int) -> None:
        """Seed Python's, numpy's and torch's generators."""
        library().set_seed(seed)


def load(auto: str, path: Path, **arguments: Any) -> Any:
    """One of transformers' auto classes, from a folder. Raises `BadInput` with the first line of what is wrong."""
    factory = getattr(library(), auto)
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        return factory.from_pretrained(str(path), **SAFE, **arguments)
    except (OSError, ValueError, TypeError, SafetensorError, StrictDataclassError) as error:  # JSON of another shape
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{arguments.get('gguf_file', path.name)} cannot be loaded: {line}") from error


def multiplies(dtype: str) -> bool:
    """Whether this CPU multiplies matrices of a 16-bit type by instructions of its own."""
    import torch

    supported = {"bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported, "fp16": torch.ops.mkldnn._is_mkldnn_fp16_supported}
    return bool(supported[dtype]())


def _refuse_random(path: Path, found: dict[str, Any]) -> None:
    """Refuse a model of which the library initialized a part itself, by the first names."""
    for problem in ("missing_keys", "mismatched_keys"):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in found.get(problem) or ())
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            how = "missing" if problem == "missing_keys" else "of another shape than config.json says"
            raise BadInput(f"{path.name}: weights are {how}: {', '.join(names[:3])}{more}")
