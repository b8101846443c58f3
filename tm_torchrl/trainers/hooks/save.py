"""Checkpoints and the saved replay at regular times, and the best network."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable

from tm_torchrl.data.saving.atomic_files import explained_disk_errors
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.data.sharded.saving import make_log
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.training import Hook, Training


class Save(Hook):
    """Saves a training at its start, at regular times and at its end, and the best network after each evaluation.

    Saving changes nothing in the training, so a run does not depend on when it was saved.

    Args:
        first_minutes: Minutes until the first checkpoint after that of the start.
        every_minutes: Minutes between checkpoints.
        keep: Number of checkpoints that are kept.
        replay_every_minutes: Minutes between saves of the replay; ``None`` to save it only at the end.
        keep_replay: Whether a run that is complete keeps its replay, so that it can be continued as if it had not
            ended. Without it, a longer run fills its memory again first. Interrupted runs always keep it.
        log: Takes messages.
    """

    def __init__(
        self,
        *,
        first_minutes: float,
        every_minutes: float,
        keep: int = 3,
        replay_every_minutes: float | None = None,
        keep_replay: bool = False,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        minutes = {"first_minutes": first_minutes, "every_minutes": every_minutes}
        if replay_every_minutes is not None:
            minutes["replay_every_minutes"] = replay_every_minutes
        for name, value in minutes.items():
            if not value > 0:
                raise ValueError(f"{name}={value}: must be positive")
        if keep < 1:
            raise ValueError(f"keep={keep}: must be at least 1")
        self.keep = keep
        self.keep_replay = keep_replay
        self.every_s = 60 * every_minutes
        self.replay_every_s = None if replay_every_minutes is None else 60 * replay_every_minutes
        self.log = log
        self.pause_s = 0.0
        self._problems: dict[str, str] = {}  # of the last tries
        self._first_s = 60 * first_minutes
        self._next_s: float | None = None
        self._next_replay_s: float | None = None

    def open(self, training: Training, run: RunFolder) -> None:
        """Open the checkpoints and the replay logs of the run folder."""
        self.checkpoints = Checkpoints(run.checkpoints, keep=self.keep)
        self.run, self.folder = run, run.replay
        self.replay_logs = {
            name: make_log(run.replay / name, part) for name, part in training.algorithm.memory.contents().items()
        }

    @property
    def problem(self) -> str:
        """Why the present state is not saved, or not all of it; empty if it is."""
        return "; ".join(self._problems.values())

    def begin(self, training: Training) -> None:
        """Save a new training, which can then be resumed whenever it ends; raises ``CheckpointError``."""
        self._save(training)

    def after_batch(self, training: Training) -> None:
        """Save what is due."""
        seconds = training.seconds
        if self._next_s is None:
            self._next_s = seconds + min(self._first_s, self.every_s)
            self._next_replay_s = None if self.replay_every_s is None else seconds + self.replay_every_s
        if seconds >= self._next_s:
            self._next_s = seconds + self.every_s
            self.save(training)
        if self._next_replay_s is not None and self.replay_every_s is not None and seconds >= self._next_replay_s:
            self._next_replay_s = seconds + self.replay_every_s
            self.save_replay(training)

    def save(self, training: Training) -> bool:
        """Write a checkpoint now; after an error, log it and return False."""
        before = training.seconds
        try:
            self._save(training)
        except CheckpointError as error:
            self._problems["checkpoint"] = str(error)
            self.log(f"{error}; training continues, earlier checkpoints are untouched")
            return False
        self._problems.pop("checkpoint", None)
        self.pause_s = training.seconds - before
        return True

    def _save(self, training: Training) -> None:
        with explained_disk_errors("the run's settings", self.run.path, error=CheckpointError):
            self.run.mend()
        facts = {"seconds": training.seconds, "frames": training.frames}
        self.checkpoints.save(training.state_dict(), frames=training.frames, facts=facts)

    def save_replay(self, training: Training, *, in_background: bool = True) -> bool:
        """Save the new part of the replay; a thread waits for the disk."""
        if not self.replay_logs:
            return True
        written, seconds = 0, 0.0
        try:
            for name, log in self.replay_logs.items():
                facts = log.append(
                    training.algorithm.memory.contents()[name],
                    facts={"frames": training.frames},
                    in_background=in_background,
                )
                written, seconds = written + facts["bytes"], seconds + facts["seconds"]
        except OSError as error:
            self._problems["replay"] = f"the replay could not be saved: {error}"
            self.log(f"{self._problems['replay']}; training continues")
            return False
        self._problems.pop("replay", None)
        self.log(f"replay saved: {written / 1e6:.0f} MB, a pause of {seconds:.2f} s")
        return True

    def save_best(self, training: Training, rows: list[Row], is_best: bool) -> None:
        """Save the network after its best evaluation so far."""
        if not is_best:
            return
        shown = {key: value for key, value in rows[0].items() if isinstance(value, (int, float, str, type(None)))}
        try:
            self.checkpoints.save_best(dict(training.algorithm.actor.state_dict()), facts=shown)
        except CheckpointError as error:
            self.log(f"{error}; training continues")

    def finish(self, training: Training) -> None:
        """Save a checkpoint at the end of training, and the replay if it is kept."""
        self.save(training)
        if self.keep_replay or not training.is_complete:
            self.save_replay(training, in_background=False)
            return
        for log in self.replay_logs.values():
            with contextlib.suppress(OSError):
                log.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
