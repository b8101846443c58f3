"""What must be equal between a buffer that wrote its contents and the one that reads them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import torch
from torchrl.data import ReplayBuffer

_OWN = ("seed", "generator")  # what they led to is restored


def settings_of(buffer: ReplayBuffer) -> dict[str, Any]:
    """Kinds, sizes and keys of a buffer, as JSON has them.

    Of its transforms: their kinds, and those arguments that are whole numbers, names or flags; other numbers, such as a
    discount, may follow a schedule. Not the batch size and beta, which the reader may choose.

    Args:
        buffer: any TorchRL replay buffer.

    Examples:
        >>> from tm_torchrl.data import NStep, make_replay_buffer
        >>> settings = settings_of(make_replay_buffer(capacity=9, batch_size=2, n_step=NStep(3, gamma=0.99)))
        >>> settings["capacity"], settings["transforms"], settings["NStep.num_steps"]
        (9, ['NStep'], 3)
    """
    sampler = getattr(buffer, "prioritized_sampler", None) or buffer.sampler
    storage = buffer.storage
    transforms = list(buffer.transform or ())
    settings: dict[str, Any] = {
        "storage": getattr(storage, "saved_as", type(storage).__name__),
        "capacity": storage.max_size,
        "sampler": type(sampler).__name__,
        "prefetch": buffer._prefetch_cap,
        "transforms": [type(transform).__name__ for transform in transforms],
    }
    if hasattr(buffer, "prioritized_sampler"):
        settings["alpha"], settings["eps"] = sampler.alpha, sampler._eps
        settings["reduction"], settings["priority_key"] = sampler.reduction, buffer.priority_key
        settings["sync"] = buffer._sync
    for transform in transforms:
        for name in inspect.signature(type(transform).__init__).parameters:
            value = getattr(transform, name, inspect.Parameter.empty)
            if name not in _OWN and _is_structure(value):
                settings[f"{type(transform).__name__}.{name}"] = value
    if len(storage):
        row = storage.get(torch.zeros(1, dtype=torch.int64))[0]
        settings["entries"] = {
            ".".join((key,) if isinstance(key, str) else key): f"{value.dtype} {list(value.shape)}"
            for key, value in sorted(row.items(True, True), key=lambda item: str(item[0]))
        }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def check_settings(saved: dict[str, Any], wanted: dict[str, Any], *, what: str = "the saved buffer") -> None:
    """Refuse a buffer of other settings; names the first that differs, and both values.

    Args:
        saved: settings of the buffer that was written.
        wanted: settings of the buffer that reads. Entries are compared if both hold transitions.
        what: the one that was written, for messages.

    Examples:
        >>> check_settings({"capacity": 50}, {"capacity": 60})
        Traceback (most recent call last):
        ValueError: the saved buffer differs in capacity: 50 there, 60 here
    """
    for name in [*wanted, *(name for name in saved if name not in wanted)]:
        there, here = (settings.get(name, "absent") for settings in (saved, wanted))
        if name == "entries":
            if isinstance(there, dict) and isinstance(here, dict):
                for key in sorted({*there, *here}):
                    if there.get(key) != here.get(key):
                        raise ValueError(
                            f"{what} differs in the entry {key!r}: {there.get(key, 'absent')} there, "
                            f"{here.get(key, 'absent')} here"
                        )
        elif there != here:
            raise ValueError(f"{what} differs in {name}: {there!r} there, {here!r} here")


def _is_structure(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_structure(part) for part in value)
    return value is None or isinstance(value, (bool, int, str))
