"""TorchRL's trainers and checkpoints with our loss, target updaters and replay buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tensordict.nn import TensorDictSequential
from torchrl.checkpoint import Checkpoint
from torchrl.collectors import Collector
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.modules import EGreedyModule
from torchrl.trainers import ReplayBufferTrainer, TargetNetUpdaterHook, Trainer, UpdateWeights
from torchrl.trainers.algorithms import DQNTrainer

from tests.objectives.cases import small
from tm_torchrl.data import make_replay_buffer
from tm_torchrl.modules import MLPIQNetwork, QuantileActor
from tm_torchrl.objectives import HardUpdate, IQNLoss, SoftUpdate
from tm_torchrl.objectives.target_update import TargetUpdate

pytestmark = pytest.mark.filterwarnings("ignore")  # TorchRL's trainers say that they are experimental

FRAMES, FRAMES_PER_BATCH, UPDATES_PER_BATCH = 48, 16, 2


class Parts(NamedTuple):
    loss: IQNLoss
    optimizer: torch.optim.Optimizer
    updater: TargetUpdate
    buffer: TensorDictReplayBuffer
    collector: Collector
    explore: EGreedyModule

    def trainer(self, trainer_class: type[Trainer], file: Path | None = None) -> Trainer:
        """A trainer of these parts; a plain one is told what ``DQNTrainer`` knows."""
        common: dict[str, Any] = {
            "collector": self.collector,
            "total_frames": FRAMES,
            "frame_skip": 1,
            "optim_steps_per_batch": UPDATES_PER_BATCH,
            "loss_module": self.loss,
            "optimizer": self.optimizer,
            "progress_bar": False,
            "save_trainer_file": file,
            "save_trainer_interval": 1,
        }
        if trainer_class is DQNTrainer:
            further = {"replay_buffer": self.buffer, "target_net_updater": self.updater, "greedy_module": self.explore}
            return DQNTrainer(**common, **further, enable_logging=False)
        trainer = Trainer(**common)
        replay = ReplayBufferTrainer(self.buffer, flatten_tensordicts=True)
        replay.register(trainer)
        trainer.register_op("post_optim", TargetNetUpdaterHook(self.updater))
        trainer.register_op("post_steps", UpdateWeights(self.collector, 1))
        return trainer


def make_parts(updater_class: type[TargetUpdate]) -> Parts:
    env = GymEnv("CartPole-v1")
    actor = QuantileActor(small(MLPIQNetwork, num_actions=2), spec=env.action_spec)
    explore = EGreedyModule(env.action_spec)
    collector = Collector(
        env,
        TensorDictSequential(actor, explore),
        frames_per_batch=FRAMES_PER_BATCH,
        total_frames=FRAMES,
        auto_register_policy_transforms=False,
    )
    loss = IQNLoss(actor).make_value_estimator("munchausen", gamma=0.99)
    interval = {"value_network_update_interval": 4} if updater_class is HardUpdate else {"eps": 0.9}
    return Parts(
        loss=loss,
        optimizer=torch.optim.Adam(loss.parameters(), lr=1e-2),
        updater=updater_class(loss, **interval),
        buffer=make_replay_buffer(capacity=100, batch_size=8, sampler="prioritized", seed=0),
        collector=collector,
        explore=explore,
    )


@pytest.mark.parametrize("updater_class", [HardUpdate, SoftUpdate])
@pytest.mark.parametrize("trainer_class", [DQNTrainer, Trainer])
def test_trainers_train_and_checkpoints_restore(
    trainer_class: type[Trainer], updater_class: type[TargetUpdate], tmp_path: Path
) -> None:
    parts = make_parts(updater_class)
    before = {name: value.detach().clone() for name, value in parts.loss.state_dict().items()}
    trainer = parts.trainer(trainer_class, tmp_path / "trainer.pt")
    trainer.train()
    after = parts.loss.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    for network in ("value_network_params.", "target_value_network_params."):
        assert any(name.startswith(network) for name in changed), network
    assert len(parts.buffer) == FRAMES
    if updater_class is HardUpdate:  # copies after updates 4 of 6
        assert parts.updater.state_dict() == {"counter": 2}
    components = {"loss": parts.loss, "optimizer": parts.optimizer, "updater": parts.updater, "buffer": parts.buffer}
    Checkpoint(**components).save(tmp_path / "checkpoint")

    restored = make_parts(updater_class)
    result = Checkpoint(**{name: getattr(restored, name) for name in components}).load(tmp_path / "checkpoint")
    assert result.loaded == set(components)
    from_file = make_parts(updater_class)
    from_file.trainer(trainer_class, tmp_path / "trainer.pt").load_from_file(
        tmp_path / "trainer.pt", weights_only=False
    )
    for other in (restored, from_file):
        for name, value in other.loss.state_dict().items():
            assert torch.equal(value, after[name]), name
    assert restored.updater.state_dict() == parts.updater.state_dict()
    assert len(restored.buffer) == FRAMES
    torch.manual_seed(0)
    expected = parts.loss(parts.buffer[:8])["loss"]
    torch.manual_seed(0)
    assert torch.equal(restored.loss(restored.buffer[:8])["loss"], expected)
