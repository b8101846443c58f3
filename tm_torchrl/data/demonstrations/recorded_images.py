"""``RecordedImages``: a memory of recorded laps that hands out their images alone.

Shapes: B frames of a batch, C images that are stacked, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.memory import Demonstrations

MOST_TESTED, MOST_SEARCHED = 1024, 2048  # frames
NUM_NEIGHBOURS = 3


class RecordedImages(Demonstrations):
    """Shuffled minibatches of recorded images; order, epochs and held-out laps are those of ``Demonstrations``.

    Args:
        folders: The recorded laps, which must have images of one size.
        batch_size: B.
        held_out_share: Share of the laps that is only tested on.
        num_stacked: C: each image comes with those of the steps before it, as ``transforms=stack_frames`` stacks them.
        positive_steps: Batches have ``positive``: for each image another one of its lap, up to so many steps later; 0
            for none.
        device: Device of the batches.
        seed: Seeds the order of the frames and the choice of later ones.
    """

    def __init__(
        self,
        folders: Sequence[DemonstrationFolder],
        *,
        batch_size: int,
        held_out_share: float = 0.1,
        num_stacked: int = 1,
        positive_steps: int = 0,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if positive_steps < 0:
            raise ValueError(f"positive_steps={positive_steps}: must be at least 0")
        super().__init__(
            folders, batch_size=batch_size, held_out_share=held_out_share, keys=["pixels"], device=device, seed=seed
        )
        self.num_stacked = num_stacked
        self.positive_steps = positive_steps
        lengths = np.concatenate([folder.lap_frames for folder in self.folders])
        self._lap_starts = (np.cumsum(lengths) - lengths).repeat(lengths)  # of each frame's lap

    def pixels_of(self, frames: np.ndarray) -> torch.Tensor:
        """The images of some frames, uint8 ``[B, C, H, W]``; before the first frame of a lap stands that frame.

        Args:
            frames: Numbers of frames, ``[B]``.
        """
        before = np.arange(1 - self.num_stacked, 1)
        stacked = np.maximum(frames[:, None] + before, self._lap_starts[frames][:, None])
        found = self._rows("pixels", stacked.reshape(-1))
        return torch.from_numpy(found.reshape(len(frames), -1, *found.shape[2:]))

    def floats_of(self, frames: np.ndarray) -> np.ndarray:
        """The floats of some frames, ``[B, F]``.

        Args:
            frames: Numbers of frames, ``[B]``.
        """
        return self._rows("observation", frames)

    def lap_of(self, frames: np.ndarray) -> np.ndarray:
        """A number for the lap of each frame.

        Args:
            frames: Numbers of frames, ``[B]``.
        """
        return self._lap_starts[frames]

    def batch_of(self, frames: np.ndarray) -> TensorDictBase:
        """``pixels``, and ``positive`` if there is any.

        Args:
            frames: Numbers of frames, ``[B]``.
        """
        found = {"pixels": self.pixels_of(frames)}
        if self.positive_steps:
            random = np.random.default_rng([self.seed, self._epoch, self._position, int(frames[0])])
            later = frames + random.integers(1, self.positive_steps + 1, len(frames))
            found["positive"] = self.pixels_of(np.minimum(later, self._lap_ends[frames] - 1))
        return TensorDict(found, [len(frames)]).to(self.device)

    def test_frames_of(self, num: int) -> np.ndarray:
        """Evenly spaced frames of the held-out laps.

        Args:
            num: How many, at most.
        """
        return evenly(self.test_frames, num)

    def neighbours_of(self, frames: np.ndarray, features_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """For each frame those of other laps with the most similar features, by their cosine: ``[B, 3]``.

        Args:
            frames: Numbers of frames, ``[B]``.
            features_of: The features ``[N, D]`` of frames ``[N]``.
        """
        searched = evenly(np.arange(len(self._lap_starts)), MOST_SEARCHED)
        ours, theirs = (
            each / np.linalg.norm(each, axis=1, keepdims=True).clip(1e-9)
            for each in map(features_of, (frames, searched))
        )
        cosine = ours @ theirs.T
        cosine[self.lap_of(frames)[:, None] == self.lap_of(searched)] = -np.inf
        return searched[np.argsort(-cosine, axis=1)[:, :NUM_NEIGHBOURS]]

    def test_batch(self) -> TensorDictBase | None:
        """Images of laps that are never learnt from; ``None`` without any."""
        return self.batch_of(self.test_frames_of(MOST_TESTED)) if len(self.test_frames) else None

    def seen(self, batch: TensorDictBase) -> None:
        """Nothing to keep."""


def evenly(frames: np.ndarray, num: int) -> np.ndarray:
    """Evenly spaced entries of an array, the first and the last among them.

    Args:
        frames: The array.
        num: How many, at most.

    Examples:
        >>> evenly(np.arange(10, 20), 4)
        array([10, 13, 16, 19])
    """
    return frames[np.linspace(0, len(frames) - 1, min(num, len(frames))).astype(np.int64)]
