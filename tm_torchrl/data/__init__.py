"""Replay: n-step writer, frame store, mini-race, buffers. Imports torch only when used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tm_torchrl.data.capacity import CapacitySchedule, move_contents
    from tm_torchrl.data.frame_store import FrameStorage
    from tm_torchrl.data.held_out import HeldOut
    from tm_torchrl.data.mini_race import MiniRace
    from tm_torchrl.data.n_step import NStep
    from tm_torchrl.data.prioritized import TensorDictPrioritizedReplayBuffer
    from tm_torchrl.data.prioritized_sampler import PrioritizedSampler
    from tm_torchrl.data.replay_buffer import make_replay_buffer
    from tm_torchrl.data.replay_log import Appended, ReplayLog, Restored
    from tm_torchrl.data.reuse_budget import ReuseBudget
    from tm_torchrl.data.row_storage import RowStorage
    from tm_torchrl.data.saved_buffer import DamagedBufferError, load_buffer, save_buffer
    from tm_torchrl.data.whole_files import DamagedFileError, SavingError

_HOMES = {
    "Appended": "tm_torchrl.data.replay_log",
    "CapacitySchedule": "tm_torchrl.data.capacity",
    "DamagedBufferError": "tm_torchrl.data.saved_buffer",
    "DamagedFileError": "tm_torchrl.data.whole_files",
    "FrameStorage": "tm_torchrl.data.frame_store",
    "HeldOut": "tm_torchrl.data.held_out",
    "MiniRace": "tm_torchrl.data.mini_race",
    "NStep": "tm_torchrl.data.n_step",
    "PrioritizedSampler": "tm_torchrl.data.prioritized_sampler",
    "ReplayLog": "tm_torchrl.data.replay_log",
    "Restored": "tm_torchrl.data.replay_log",
    "ReuseBudget": "tm_torchrl.data.reuse_budget",
    "RowStorage": "tm_torchrl.data.row_storage",
    "SavingError": "tm_torchrl.data.whole_files",
    "TensorDictPrioritizedReplayBuffer": "tm_torchrl.data.prioritized",
    "load_buffer": "tm_torchrl.data.saved_buffer",
    "make_replay_buffer": "tm_torchrl.data.replay_buffer",
    "move_contents": "tm_torchrl.data.capacity",
    "save_buffer": "tm_torchrl.data.saved_buffer",
}

__all__ = [
    "Appended",
    "CapacitySchedule",
    "DamagedBufferError",
    "DamagedFileError",
    "FrameStorage",
    "HeldOut",
    "MiniRace",
    "NStep",
    "PrioritizedSampler",
    "ReplayLog",
    "Restored",
    "ReuseBudget",
    "RowStorage",
    "SavingError",
    "TensorDictPrioritizedReplayBuffer",
    "load_buffer",
    "make_replay_buffer",
    "move_contents",
    "save_buffer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
