from pathlib import Path

import torch

from msiam.towers.device import pick_device, use_bf16

CPU = torch.device("cpu")


def test_the_device_is_one_that_works() -> None:
    assert torch.zeros(2, device=pick_device()).sum().item() == 0


def test_precision_is_as_asked_for() -> None:
    assert use_bf16("bf16", CPU) and not use_bf16("fp32", CPU)
    flags = Path("/proc/cpuinfo").read_text().split()
    assert use_bf16("auto", CPU) == ("avx512_bf16" in flags or "amx_bf16" in flags)
    if torch.cuda.is_available():
        wanted = torch.cuda.is_bf16_supported(including_emulation=False)
        assert use_bf16("auto", torch.device("cuda")) == wanted
