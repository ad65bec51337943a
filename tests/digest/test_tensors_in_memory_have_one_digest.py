"""The digest of tensors names their values: not the order they come in, nor the type that holds them."""

import torch

from tunewright.digest import digest_tensors


def test_order_type_and_memory_layout_do_not_matter():
    tensor = torch.randn(4, 6).bfloat16()
    same = digest_tensors([("a", tensor), ("b", torch.ones(2))])
    assert digest_tensors([("b", torch.ones(2).half()), ("a", tensor.float())]) == same
    assert digest_tensors([("a", tensor.t().contiguous().t()), ("b", torch.ones(2))]) == same
    assert digest_tensors([("a", tensor.requires_grad_()), ("b", torch.ones(2))]) == same


def test_name_shape_and_the_last_bit_do():
    tensor = torch.randn(4, 6)
    digests = {
        digest_tensors([(name, changed)])
        for name, changed in [
            ("a", tensor),
            ("b", tensor),
            ("a", tensor.reshape(6, 4)),
            ("a", tensor.t()),
            ("a", torch.nextafter(tensor, torch.tensor(9.0))),
        ]
    }
    assert len(digests) == 5


def test_empty_tensors_and_scalars_have_one():
    assert digest_tensors([("a", torch.zeros(0)), ("b", torch.tensor(1.0))]) != digest_tensors([])
