"""Warp arrays and devices for torch tensors."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
import warp as wp

from tm_torchrl.world.kernel_cache import OURS, remove_damaged_kernels

_HINT = "Set the environment variable WARP_CACHE_PATH to a folder that can be written"


@cache
def start_warp() -> None:
    """Start Warp without its greeting, and without its warning on machines that have no CUDA."""
    wp.config.log_level = wp.LOG_WARNING
    try:
        _init()
    except OSError as error:
        raise OSError(f"the folder of Warp's compiled kernels cannot be made: {error}. {_HINT}") from error
    cache = Path(str(wp.config.kernel_cache_dir))
    remove_damaged_kernels(cache)
    if not os.access(cache, os.W_OK) and not any(cache.glob(OURS)):
        raise OSError(f"{cache}, the folder of Warp's compiled kernels, is empty and cannot be written. {_HINT}")


def _init() -> None:
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
    if device.type != "cpu" and not (device.type == "cuda" and torch.cuda.is_available()):
        raise ValueError(f"device={str(device)!r}: must be 'cpu', or 'cuda' where torch finds a CUDA device")
    start_warp()
    return "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"


def as_warp(tensor: torch.Tensor, *, dtype: Any = None) -> Any:
    """A Warp array that shares the tensor's memory."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False)
