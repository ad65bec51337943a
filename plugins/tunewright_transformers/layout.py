"""The one layout of a model's folder: which files are the model, which are its tokenizer, which are never read."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

CONFIGS = ("config.json", "generation_config.json")
TEMPLATE = "chat_template.jinja"
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")
TOKENIZER = (*VOCABULARY, "tokenizer_config.json", "special_tokens_map.json", TEMPLATE)
WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
LICENSES = "LICENSE*"
LAYOUT = (*CONFIGS, *TOKENIZER, INDEX, WEIGHTS, LICENSES)
"""Every file that is part of a model; all lie at the top of its folder. No pickle and no code is among them."""


def belongs(name: str) -> bool:
    """Whether a file of this name, relative to the model's folder, is part of the model."""
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in LAYOUT)


def is_weights(name: str) -> bool:
    """Whether a file of this name, relative to the model's folder, holds its weights."""
    return "/" not in name and fnmatchcase(name, WEIGHTS)


def files_of(folder: Path) -> list[Path]:
    """The files of a model that lie in `folder`, sorted by name; a pickle is never one of them."""
    return sorted(path for path in folder.iterdir() if belongs(path.name) and path.is_file())


def tokenizer_files(folder: Path) -> list[Path]:
    """The files from which a tokenizer and its chat template are read."""
    return [folder / name for name in TOKENIZER if (folder / name).is_file()]
