"""Warp over torch-owned memory."""

from __future__ import annotations

from typing import Any

import torch
import warp as wp


def warp_device(device: torch.device) -> str:
    """The name that Warp has for a torch device."""
    wp.config.log_level = wp.LOG_WARNING  # its greeting would land in the output of scripts that print JSON
    wp.init()  # type: ignore[no-untyped-call]
    return "cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"


def as_warp(tensor: torch.Tensor, *, dtype: Any = None) -> Any:
    """A Warp array over the tensor's own memory."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False)
