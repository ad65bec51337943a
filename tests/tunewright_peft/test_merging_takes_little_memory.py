"""The memory of a merge is that of a tensor, not of the model: measured in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from merge_memory import ALLOWED, measure


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dtype", "quantizer"), [("lora", "bf16", "none"), ("dora", "fp32", "none"), ("lora", "bf16", "nf4")]
)
def test_it_is_bounded_by_the_largest_file(tmp_path, method, dtype, quantizer):
    """Over NF4 too, where each weight is packed and unpacked on its way."""
    found = measure(tmp_path, 1.0, 8, method, dtype, quantizer)
    assert found["size"] > 0.9 * (1 << 30)
    assert found["peak"] - found["baseline"] <= found["shard"] + ALLOWED
    assert found["peak"] - found["baseline"] < found["size"] / 2, "and so is no whole model"
