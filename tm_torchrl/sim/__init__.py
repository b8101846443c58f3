"""The embedded simulator: batched car physics and camera in NVIDIA Warp over torch-owned memory."""

from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.sim.starts import Randomisation, Starts

__all__ = ["Randomisation", "Simulator", "Starts"]
