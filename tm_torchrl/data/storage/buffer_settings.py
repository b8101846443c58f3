"""Settings of a replay buffer that must agree before contents move from one buffer to another."""

from __future__ import annotations

import inspect
import json
from typing import Any

import torch
from torchrl.data import ReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler

_LEFT_OUT = ("seed", "generator", "extra_keys")  # their effects are restored, or compared as entries


def settings_of(buffer: ReplayBuffer) -> dict[str, Any]:
    """Kinds, sizes and keys of a buffer, as JSON has them.

    Of its transforms these are the kinds, and the arguments that are whole numbers, strings or flags; other numbers,
    such as a discount, may follow a schedule. Batch size and beta are left out, since the reader may choose them.

    Args:
        buffer: Any TorchRL replay buffer.

    Examples:
        >>> from tm_torchrl.data import NStep, make_replay_buffer
        >>> settings = settings_of(make_replay_buffer(capacity=9, batch_size=2, transforms=[NStep(3, gamma=0.99)]))
        >>> settings["capacity"], settings["transforms"], settings["NStep.num_steps"]
        (9, ['NStep'], 3)
    """
    storage, sampler = buffer.storage, getattr(buffer, "prioritized_sampler", buffer.sampler)
    transforms = list(buffer.transform or ())
    settings: dict[str, Any] = {
        "storage": getattr(storage, "saved_as", type(storage).__name__),
        "capacity": storage.max_size,
        "sampler": type(sampler).__name__,
        "prefetch": buffer._prefetch_cap,
        "transforms": [type(transform).__name__ for transform in transforms],
    }
    if isinstance(sampler, PrioritizedSampler):
        settings["alpha"], settings["eps"] = sampler.alpha, sampler._eps
        settings["reduction"], settings["priority_key"] = sampler.reduction, buffer.priority_key
        settings["sync"] = getattr(buffer, "_sync", True)
    for transform in transforms:
        for name in inspect.signature(type(transform).__init__).parameters:
            value = getattr(transform, name, inspect.Parameter.empty)
            if name not in _LEFT_OUT and _is_structure(value):
                settings[f"{type(transform).__name__}.{name}"] = value
    if len(storage):
        row = storage.get(torch.zeros(1, dtype=torch.int64))[0]
        settings["entries"] = {
            ".".join((key,) if isinstance(key, str) else key): f"{value.dtype} {list(value.shape)}"
            for key, value in sorted(row.items(True, True), key=lambda item: str(item[0]))
        }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def check_settings(saved: dict[str, Any], own: dict[str, Any], *, what: str) -> None:
    """Raise a ``ValueError`` that names the first setting in which two buffers differ.

    Args:
        saved: Settings of the buffer that was written.
        own: Settings of the buffer that reads. Entries are compared if both hold transitions.
        what: The buffer that was written, for error messages.

    Examples:
        >>> check_settings({"capacity": 50}, {"capacity": 60}, what="the saved replay")
        Traceback (most recent call last):
        ValueError: capacity=60: the saved replay has capacity=50
    """
    for name in [*own, *(name for name in saved if name not in own)]:
        there, here = (settings.get(name, "absent") for settings in (saved, own))
        if name != "entries":
            if there != here:
                raise ValueError(f"{name}={here!r}: {what} has {name}={there!r}")
        elif isinstance(there, dict) and isinstance(here, dict):
            for key in sorted({*there, *here}):
                if there.get(key) != here.get(key):
                    raise ValueError(
                        f"entry {key!r}: {here.get(key, 'absent')} in this buffer, {there.get(key, 'absent')} in {what}"
                    )


def _is_structure(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_structure(part) for part in value)
    return value is None or isinstance(value, (bool, int, str))
