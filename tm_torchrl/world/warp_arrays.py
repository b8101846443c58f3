"""Warp arrays and devices for torch tensors."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
import warp as wp


@cache
def start_warp() -> None:
    """Start Warp without its greeting, and without its warning on machines that have no CUDA."""
    wp.config.log_level = wp.LOG_WARNING
    if torch.cuda.is_available():
        wp.init()  # type: ignore[no-untyped-call]
        return
    errors = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            wp.init()  # type: ignore[no-untyped-call]
    finally:
        os.dup2(errors, 2)
        os.close(errors)


def warp_device(device: torch.device) -> str:
    """Warp's name for a torch device."""
    start_warp()
    return "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"


def as_warp(tensor: torch.Tensor, *, dtype: Any = None) -> Any:
    """A Warp array that shares the tensor's memory."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False)
