"""The one layout of a model's folder: which files are the model, which are its tokenizer, which are never read."""

from __future__ import annotations

from pathlib import Path

CONFIGS = ("config.json", "generation_config.json")
TEMPLATE = "chat_template.jinja"
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
TOKENIZER = (*VOCABULARY, "tokenizer_config.json", "special_tokens_map.json", TEMPLATE)
WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
LICENSES = "LICENSE*"


def files_of(folder: Path) -> list[Path]:
    """The files of a model that lie in `folder`, sorted by name; a pickle is never one of them."""
    named = [folder / name for name in (*CONFIGS, *TOKENIZER, INDEX)]
    found = [*named, *folder.glob(WEIGHTS), *folder.glob(LICENSES)]
    return sorted({path for path in found if path.is_file()})


def tokenizer_files(folder: Path) -> list[Path]:
    """The files from which a tokenizer and its chat template are read."""
    return [folder / name for name in TOKENIZER if (folder / name).is_file()]
