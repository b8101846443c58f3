"""The device that a setting names."""

from __future__ import annotations

import torch

from tm_torchrl.settings.construct import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is CUDA if there is a CUDA device, else the CPU.

    Args:
        name: ``"auto"``, ``"cpu"`` or ``"cuda"``, with a number if there are several devices.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name!r}: must be auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r}: torch does not find a CUDA device; use device=cpu or device=auto")
    return device
