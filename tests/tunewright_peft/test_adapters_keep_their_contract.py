"""Each way of an adapter passes the conformance kit, not the defaults alone."""

import pytest

from tunewright.host import Host
from tunewright.testing import check_adapter, tiny_world
from tunewright.testing.tiny import World
from tunewright_peft.ia3 import Ia3
from tunewright_peft.lora import Lora
from tunewright_peft.tuner import Tuner
from tunewright_transformers.full import FullTuning

QUICK = ("dora", "pissa, patterns", "ia3")  # the others take minutes together
CASES = {
    "rslora": (Lora, {"rslora": True}),
    "dora": (Lora, {"dora": True}),
    "gaussian": (Lora, {"init": "gaussian"}),
    "orthogonal": (Lora, {"init": "orthogonal"}),
    "pissa": (Lora, {"init": "pissa"}),
    "pissa, patterns": (Lora, {"init": "pissa_niter_4", "rslora": True, "rank_pattern": {"q_proj": 2}}),
    "olora": (Lora, {"init": "olora"}),
    "modules_to_save": (Lora, {"modules_to_save": ["model.norm"]}),
    "ia3": (Ia3, {}),
    "vera": (Tuner, {"args": {"peft_type": "VERA", "r": 8}}),
    "hira": (Tuner, {"args": {"peft_type": "HIRA", "r": 4}}),
    "none": (FullTuning, {}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CASES]
)
def test_it_passes_the_kit(name, tmp_path):
    method, options = CASES[name]
    check_adapter(method, {"r": 4, "alpha": 8, **options} if method is Lora else options, folder=tmp_path)


@pytest.mark.slow
def test_loftq_passes_on_a_packed_base(tmp_path):
    tiny = tiny_world()
    packed = World(tiny.base, tiny.loader, Host().make("quantizer", {"kind": "nf4"}), tiny.method, tiny.engine)
    check_adapter(Lora, {"r": 4, "alpha": 8, "init": "loftq"}, folder=tmp_path, world=packed)
