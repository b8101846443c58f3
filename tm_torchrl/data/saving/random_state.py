"""The random generators of a process as plain values."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_LOG = logging.getLogger("tm_torchrl")


def random_state() -> dict[str, Any]:
    """States of the global generators of Python, numpy and torch, and of CUDA once it is in use, as plain values.

    Generators that belong to objects, such as a buffer or a transform, are part of those objects' states.

    Examples:
        >>> state = random_state()
        >>> first = random.random(), np.random.rand(), torch.rand(1).item()
        >>> restore_random_state(state)
        >>> first == (random.random(), np.random.rand(), torch.rand(1).item())
        True
    """
    version, words, next_gauss = random.getstate()
    numpy_state = _numpy_state()
    is_in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "next_gauss": next_gauss},
        "numpy": {
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "position": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state().clone(),
        "cuda": list(torch.cuda.get_rng_state_all()) if is_in_use else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore what ``random_state`` returned.

    On a machine with fewer CUDA devices the generators of the missing ones are skipped with a warning in the log,
    because the run then cannot repeat bit for bit.
    """
    python, numpy_part = state["python"], state["numpy"]
    _numpy_state()
    random.setstate((python["version"], tuple(python["words"].tolist()), python["next_gauss"]))
    np.random.set_state(  # noqa: NPY002  (libraries draw from the global generator)
        {
            "bit_generator": "MT19937",
            "state": {"key": numpy_part["key"].numpy().astype(np.uint32), "pos": numpy_part["position"]},
            "has_gauss": numpy_part["has_gauss"],
            "gauss": numpy_part["gauss"],
        }
    )
    torch.set_rng_state(state["torch"])
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(state["cuda"]) > num_devices:
        _LOG.warning(
            "random generators of %d CUDA devices were saved, but there are %d: the run continues, but not bit for bit",
            len(state["cuda"]),
            num_devices,
        )
    for device, device_state in enumerate(state["cuda"][:num_devices]):
        torch.cuda.set_rng_state(device_state, device)


def _numpy_state() -> dict[str, Any]:
    found: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    if found["bit_generator"] != "MT19937":
        raise ValueError(
            f"numpy's global generator is a {found['bit_generator']}: only the default MT19937 can be saved; do not "
            "call np.random.set_bit_generator"
        )
    return dict(found)
