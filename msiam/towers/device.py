"""Where a model computes, and in which precision that place is fast."""

from __future__ import annotations

import torch


def pick_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: asked for, or "auto" where the device multiplies in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = getattr(torch.cpu, "get_capabilities", None)  # an older torch lacks it
    capabilities: dict[str, object] = known() if known else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
