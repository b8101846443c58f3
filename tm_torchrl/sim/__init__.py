"""The embedded simulator: batched car physics and camera in NVIDIA Warp over torch-owned memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.sim.simulator import Simulator
    from tm_torchrl.sim.starts import Randomisation, Starts

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
