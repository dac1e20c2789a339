"""Training needs torch, which is in the extra `train`. In: what is to be done. Out: an error if torch is missing.

This module does not import torch. Call it before the modules that do are imported.
"""

from __future__ import annotations

from importlib.util import find_spec

from vqcodec.errors import UsageError

__all__ = ["require_torch"]


def require_torch(purpose: str) -> None:
    """Raises `UsageError` if torch is not installed. `purpose`: what needs it. torch itself is not imported."""
    if find_spec("torch") is None:
        raise UsageError(f"{purpose} needs torch: pip install 'vqcodec[train]'")
