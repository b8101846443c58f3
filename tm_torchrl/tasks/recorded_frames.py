"""Recorded laps as a task: nothing is driven; a linear probe tells what an encoder of images has learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from tensordict import NestedKey, TensorDict
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase
from torchrl.envs.transforms import CatFrames, Transform

from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.recorded_images import RecordedImages, evenly
from tm_torchrl.evaluation.linear_probe import TARGETS, probe_targets, ridge_r2
from tm_torchrl.tasks.task import Row, TaskDefaults
from tm_torchrl.world.observation import observation_layout

FRAMES_OF_LAP = 100  # that are probed, evenly spaced
CHOICE_EVERY = 5  # of the laps to learn from, which chooses the strength of the probe's penalty
FEW_LAPS = 4  # two to fit the probe, one to choose, one to test
BATCH = 512


class RecordedFrames(TaskDefaults):
    """The images of recorded laps.

    Args:
        data: The folder of recorded laps, or several, of one size of images and one layout of floats.
        held_out_share: Share of the laps that is only tested on.
        transforms: At most one that makes a ``CatFrames`` of images, as ``transforms=stack_frames`` does.
    """

    num_envs = 1

    def __init__(
        self,
        data: str | Path | Sequence[str | Path] | None,
        *,
        held_out_share: float = 0.1,
        transforms: Sequence[Callable[[], Transform]] = (),
    ) -> None:
        if data is None:
            raise ValueError(
                "data=null: must be a folder of recorded laps; record them with tm-torchrl record TRACK --pixels"
            )
        paths = [data] if isinstance(data, (str, Path)) else list(data)
        self.folders = [DemonstrationFolder(path) for path in paths]
        self.num_stacked = _stacked(transforms)
        self.held_out_share = held_out_share
        first = self.folders[0].description
        for folder in self.folders:
            laps = folder.description
            if laps.image_size is None:
                raise ValueError(f"data={folder.path}: has no images; record the laps with --pixels")
            for name in ("image_size", "num_previous_actions"):
                ours, theirs = getattr(first, name), getattr(laps, name)
                if ours != theirs:
                    raise ValueError(
                        f"data={folder.path}: {name}={theirs}, but {ours} in {self.folders[0].path}; use folders of "
                        "one kind"
                    )
        assert first.image_size is not None
        self.image_shape = (self.num_stacked, first.image_size, first.image_size)
        self._layout = observation_layout(first.num_previous_actions)
        self._images = RecordedImages(
            self.folders, batch_size=1, held_out_share=held_out_share, num_stacked=self.num_stacked
        )
        num_test = len(np.unique(self._images.lap_of(self._images.test_frames)))
        num_laps = sum(folder.num_laps for folder in self.folders)
        if num_laps < FEW_LAPS or not num_test:
            raise ValueError(
                f"data={data}: {num_test} of its {num_laps} laps are held out; there must be at least {FEW_LAPS} laps, "
                f"and one of them held out: record more, or use a larger env.held_out_share than {held_out_share}"
            )

    @property
    def label(self) -> str:
        """The name of the track, or the number of tracks."""
        names = list(dict.fromkeys(folder.description.track for folder in self.folders))
        return f"frames of {names[0] if len(names) == 1 else f'{len(names)} tracks'}"

    @property
    def in_keys(self) -> list[NestedKey]:
        """``pixels``."""
        return ["pixels"]

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> NoReturn:
        """There is none."""
        raise ValueError("env=recorded: nothing can be driven in recorded laps; use a run of env=trackmania")

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """There is none."""
        return self.make_env(num_envs=num_envs)

    def network_arguments(self) -> dict[str, Any]:
        """The shape of the images."""
        return {"image_shape": self.image_shape}

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Probe the features that a policy writes, on up to ``num`` laps to learn from and as many held-out ones."""
        train, test = (self._some_laps(frames, num) for frames in (self._images.train_frames, self._images.test_frames))
        laps = np.unique(self._images.lap_of(train))
        chooses = np.isin(
            self._images.lap_of(train), laps[CHOICE_EVERY - 1 :: CHOICE_EVERY] if len(laps) > 4 else laps[-1:]
        )
        parts = [train[~chooses], train[chooses], test]
        fit, choice, held_out = ((features_of(policy, self._images, part), self._targets(part)) for part in parts)
        found = dict(zip(TARGETS, ridge_r2(fit, choice, held_out).tolist(), strict=True))
        mean = sum(found.values()) / len(found)
        return [
            {
                "task": self.label,
                "r2_mean": mean,
                **{f"r2_{name}": value for name, value in found.items()},
                "num_frames": len(test),
            }
        ]

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """The mean over the targets, then the least."""
        return rows[0]["r2_mean"], min(rows[0][f"r2_{name}"] for name in TARGETS)

    def _targets(self, frames: np.ndarray) -> np.ndarray:
        return probe_targets(self._images.floats_of(frames), self._layout)

    def _some_laps(self, frames: np.ndarray, num: int) -> np.ndarray:
        """Evenly spaced frames of evenly spaced laps."""
        lap = self._images.lap_of(frames)
        chosen = evenly(np.unique(lap), num)
        return np.concatenate([evenly(frames[lap == each], FRAMES_OF_LAP) for each in chosen])


@torch.no_grad()
def features_of(policy: TensorDictModuleBase, images: RecordedImages, frames: np.ndarray) -> np.ndarray:
    """The features that a policy writes for recorded images, ``[N, D]``.

    Args:
        policy: Reads ``pixels``, writes ``features``.
        images: The recorded images.
        frames: Numbers of frames, ``[N]``.
    """
    device = next(policy.parameters()).device
    was_training = policy.training
    policy.eval()
    found = []
    for first in range(0, len(frames), BATCH):
        pixels = images.pixels_of(frames[first : first + BATCH]).to(device)
        found.append(policy(TensorDict({"pixels": pixels}, [len(pixels)]))["features"].float().cpu().numpy())
    policy.train(was_training)
    return np.concatenate(found)


def _stacked(transforms: Sequence[Callable[[], Transform]]) -> int:
    """How many images are stacked."""
    made = [make() for make in transforms]
    if not made:
        return 1
    if len(made) > 1 or not isinstance(made[0], CatFrames) or list(made[0].in_keys) != ["pixels"]:
        names = ", ".join(type(each).__name__ for each in made)
        raise ValueError(f"transforms={names}: recorded images can only be stacked; use stack_frames or none")
    return int(made[0].N)
