"""The precision of the networks' products: bfloat16 where the hardware multiplies it fast, float32 elsewhere.

bf16 halves the time on CPUs with bf16 instructions and on GPUs. On other CPUs torch emulates it, which takes about ten
times as long as float32. Decoding never uses it: there all products are in float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["autocast", "has_fast_bf16"]

CPU_BF16 = ("avx512_bf16", "amx_bf16")  # CPU capabilities, any of which gives fast bf16 products


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than float32 on the device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # absent from older versions of torch
    capabilities: Mapping[str, object] = get_capabilities() if get_capabilities else {}
    return device.type == "cpu" and any(map(capabilities.get, CPU_BF16))


def autocast(device: torch.device) -> torch.autocast:
    """A context in which products run in bf16 if that is faster on the device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bf16(device))
