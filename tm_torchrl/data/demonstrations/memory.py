"""``Demonstrations``: a memory of recorded laps, whose frames it hands out with the actions to be learnt.

Shapes: B frames of a batch, K offsets, S slots of an action block, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from tm_torchrl.data.demonstrations.description import UNTRIED
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.recorded_epochs import RecordedEpochs
from tm_torchrl.world.actions import NUM_ACTIONS

MOST_TESTED = 4096  # frames


class Demonstrations(RecordedEpochs):
    """Shuffled minibatches of recorded frames, with what the driver did then and some steps later.

    Each frame that the source counts pays for one frame to learn from. In an epoch each frame comes once, but for a
    rest that fills no minibatch. Labels are the driver's choices, also where something else was played. If the driver
    of any folder weighed its actions, batches have ``regret`` too.

    Args:
        folders: The recorded laps.
        batch_size: B.
        held_out_share: Share of the laps that is only tested on.
        offsets: Steps after the present one whose actions are labels; the first must be 0.
        keys: Keys that the network reads: ``"observation"``, ``"pixels"``.
        shuffled: Columns of ``observation`` that each frame takes from another one, so that they say nothing of it.
        device: Device of the batches.
        seed: Seeds the order of the frames.
    """

    def __init__(
        self,
        folders: Sequence[DemonstrationFolder],
        *,
        batch_size: int,
        held_out_share: float = 0.1,
        offsets: Sequence[int] = (0,),
        keys: Sequence[str] = ("observation",),
        shuffled: Sequence[int] = (),
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if not 0.0 <= held_out_share < 1.0:
            raise ValueError(f"held_out_share={held_out_share}: must be at least 0 and below 1")
        if not offsets or offsets[0] != 0 or any(offset < 0 or not float(offset).is_integer() for offset in offsets):
            raise ValueError(f"offsets={list(offsets)}: must begin with 0, and be whole steps of at least 0")
        longest = max(int(folder.lap_frames.max()) for folder in folders)
        if max(offsets) >= longest:
            raise ValueError(
                f"offsets={list(offsets)}: the longest lap has {longest} frames, so there is no such label"
            )
        self.folders = list(folders)
        self.batch_size = batch_size
        self.offsets = np.array(offsets, dtype=np.int64)
        self.keys = list(keys)
        self.shuffled = list(shuffled)
        self.device = torch.device(device)
        self._folder_ends = np.cumsum([len(folder) for folder in self.folders])
        lap_frames = np.concatenate([folder.lap_frames for folder in self.folders])
        self._lap_ends = np.cumsum(lap_frames).repeat(lap_frames)  # of each frame's lap
        self._chosen = self._all("chosen")
        self._weighs_actions = any(folder.description.weighs_actions for folder in self.folders)
        share = held_out_share * np.arange(len(lap_frames) + 1)
        is_test = (np.diff(np.floor(share)) > 0).repeat(lap_frames)  # whole laps, evenly spaced
        self.train_frames, self.test_frames = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        if not 1 <= batch_size <= len(self.train_frames):
            raise ValueError(
                f"batch_size={batch_size}: must be at least 1 and at most {len(self.train_frames)}, the number of "
                "frames to learn from"
            )
        super().__init__(
            records="frames",
            source="data",
            num_batches=len(self.train_frames) // batch_size,
            names=self._names("accuracy"),
            seed=seed,
        )

    def __len__(self) -> int:
        """The number of frames to learn from."""
        return len(self.train_frames)

    def action_counts(self, num_actions: int) -> np.ndarray:
        """How often each action is the label of a frame to learn from, ``[A]``; all slots of a block count.

        Args:
            num_actions: A.
        """
        return np.bincount(self._chosen[self.train_frames].reshape(-1), minlength=num_actions)

    def batches(self) -> Iterator[TensorDictBase]:
        """The minibatches ``[B]`` that are due."""
        while self._num_due >= self.batch_size:
            self._num_due -= self.batch_size
            order, position = self._next_place()
            start = position * self.batch_size
            yield self.batch_of(self.train_frames[order[start : start + self.batch_size]])

    def test_batch(self) -> TensorDictBase | None:
        """Frames of laps that are never learnt from; ``None`` without any."""
        num = len(self.test_frames)
        if not num:
            return None
        return self.batch_of(self.test_frames[np.linspace(0, num - 1, min(num, MOST_TESTED)).astype(np.int64)])

    def batch_of(self, frames: np.ndarray) -> TensorDictBase:
        """What a loss reads of some frames: keys, ``action``, ``is_labelled``, and maybe ``regret`` ``[B, K, A]``.

        Args:
            frames: Numbers of frames, ``[B]``.
        """
        found = {key: torch.from_numpy(self._rows(key, frames)) for key in self.keys}
        if self.shuffled and "observation" in found:
            columns = found["observation"][:, self.shuffled]
            found["observation"][:, self.shuffled] = columns.roll(max(1, len(frames) // 2), 0)
        later = frames[:, None] + self.offsets
        is_inside = later < self._lap_ends[frames][:, None]
        later = np.where(is_inside, later, frames[:, None])
        labels = torch.from_numpy(self._chosen[later].astype(np.int64))
        batch = TensorDict({**found, "action": labels, "is_labelled": torch.from_numpy(is_inside)}, [len(frames)])
        if self._weighs_actions:
            batch["regret"] = torch.from_numpy(self._regret(later.reshape(-1))).view(*later.shape, NUM_ACTIONS)
        return batch.to(self.device)

    def by_offset(self, name: str, values: torch.Tensor) -> dict[str, float]:
        """Numbers ``[K]`` for the log: ``accuracy``, ``accuracy_50ms``, ...

        Args:
            name: Of the number at the present step.
            values: One for each offset.
        """
        return dict(zip(self._names(name), values.tolist(), strict=True))

    def _names(self, name: str) -> list[str]:
        return [name if offset == 0 else f"{name}_{50 * offset}ms" for offset in self.offsets.tolist()]

    def _all(self, name: str) -> np.ndarray:
        return np.concatenate([folder.rows(name, np.arange(len(folder))) for folder in self.folders])

    def _rows(self, name: str, frames: np.ndarray) -> np.ndarray:
        """An array's values of frames that are numbered through all folders."""
        if len(self.folders) == 1:
            return self.folders[0].rows(name, frames)
        first = self.folders[0].rows(name, frames[:0])
        found = np.empty((len(frames), *first.shape[1:]), first.dtype)
        for mine, folder, numbers in self._by_folder(frames):
            found[mine] = folder.rows(name, numbers)
        return found

    def _regret(self, frames: np.ndarray) -> np.ndarray:
        """How much more each action costs than the chosen one ``[F, A]``; a driver that weighs none tried no other."""
        found = np.full((len(frames), NUM_ACTIONS), UNTRIED, np.float32)
        found[np.arange(len(frames)), self._chosen[frames]] = 0.0
        for mine, folder, numbers in self._by_folder(frames):
            if folder.description.weighs_actions:
                found[mine] = folder.rows("regret", numbers)
        return found

    def _by_folder(self, frames: np.ndarray) -> Iterator[tuple[np.ndarray, DemonstrationFolder, np.ndarray]]:
        """Each folder with frames in it: which of the given ones they are, and their numbers there."""
        folder_of = np.searchsorted(self._folder_ends, frames, side="right")
        for number in np.unique(folder_of):
            mine, folder = folder_of == number, self.folders[number]
            yield mine, folder, frames[mine] - (self._folder_ends[number] - len(folder))
