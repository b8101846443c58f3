"""Requests from outside: stop, save, evaluate."""

from __future__ import annotations

from collections.abc import Callable

from tm_torchrl.record.requests import asked_for
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.trainers.hooks.evaluate import Evaluate
from tm_torchrl.trainers.hooks.save import Save
from tm_torchrl.trainers.training import INTERRUPTED, Hook, Training


class Requests(Hook):
    """Does what was asked for by a file in the run folder; looking takes some microseconds per batch.

    Args:
        evaluate: Evaluates after the next batch.
        save: Saves.
        log: Takes messages.
    """

    def __init__(self, *, evaluate: Evaluate, save: Save, log: Callable[[str], None] = lambda message: None) -> None:
        self.evaluate, self.save, self.log = evaluate, save, log

    def open(self, training: Training, run: RunFolder) -> None:
        """Forget what an earlier session was asked for."""
        self.folder = run.path
        asked_for(self.folder)

    def after_batch(self, training: Training) -> None:
        """Do what was asked for since the last batch."""
        for what in asked_for(self.folder):
            self.log(f"asked to {what}")
            if what == "stop":
                training.stop(INTERRUPTED)
            elif what == "save":
                self.save.save(training)
                self.save.save_replay(training)
            else:
                self.evaluate.ask()
