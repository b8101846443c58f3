"""Replay: n-step writer, frame store, mini-race, buffers. Imports torch only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
    from tm_torchrl.data.demonstrations.memory import Demonstrations
    from tm_torchrl.data.demonstrations.pair_file import PairFile
    from tm_torchrl.data.demonstrations.recorded_images import RecordedImages
    from tm_torchrl.data.demonstrations.recorded_pairs import RecordedPairs
    from tm_torchrl.data.demonstrations.share import DemonstrationShare
    from tm_torchrl.data.demonstrations.writer import DemonstrationWriter
    from tm_torchrl.data.groups import Groups
    from tm_torchrl.data.memory import Memory
    from tm_torchrl.data.pairs import Pairs
    from tm_torchrl.data.replay import Priorities, Replay
    from tm_torchrl.data.reuse_budget import ReuseBudget
    from tm_torchrl.data.rollouts import Rollouts
    from tm_torchrl.data.saving.atomic_files import DamagedFileError, SavingError
    from tm_torchrl.data.saving.replay_log import Appended, ReplayLog
    from tm_torchrl.data.sequences import Sequences
    from tm_torchrl.data.sharded.replay import ShardedReplay
    from tm_torchrl.data.steps.held_out import HeldOut
    from tm_torchrl.data.steps.mini_race import MiniRace
    from tm_torchrl.data.steps.n_step import NStep
    from tm_torchrl.data.storage.capacity import CapacitySchedule, move_contents
    from tm_torchrl.data.storage.frame_store import FrameStorage
    from tm_torchrl.data.storage.prioritized import TensorDictPrioritizedReplayBuffer
    from tm_torchrl.data.storage.prioritized_sampler import PrioritizedSampler
    from tm_torchrl.data.storage.replay_buffer import make_replay_buffer
    from tm_torchrl.data.storage.row_storage import RowStorage

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
