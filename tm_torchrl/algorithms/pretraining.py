"""Visual pretraining: an encoder of images learns from recorded frames without labels."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tm_torchrl.algorithms.algorithm import Schedules
from tm_torchrl.algorithms.learner import PRECISIONS, Learner
from tm_torchrl.algorithms.ppo import Number
from tm_torchrl.algorithms.precision import probe_precision
from tm_torchrl.data.demonstrations.recorded_images import RecordedImages
from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.lazy import import_extra
from tm_torchrl.modules.encoders.images import scaled_images
from tm_torchrl.modules.vision import VisionActor, VisionNetwork
from tm_torchrl.record.picture_table import write_picture_table
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tasks.recorded_frames import RecordedFrames, features_of
from tm_torchrl.tasks.task import Task

ENCODER, PICTURE = "encoder.safetensors", "pretraining.png"
NUM_SHOWN = 8
PROBED_LAPS = 50


class PretrainingAlgorithm:
    """Trains the part ``vision`` of a network: an autoencoder, a variational one, or contrast (``objective``).

    Frames count what is learnt from. After each best evaluation the run folder has the encoder as a ``.safetensors``
    file and a picture of what it has learnt. Runs with the same ``network`` can start from both the file and the folder
    (``warm_start``).

    Args:
        task: The recorded laps.
        objective: ``network``, of which ``image`` and ``activation`` are used; ``loss``; and ``positive_steps``, if the
            loss contrasts images with later ones.
        images: Makes the memory.
        optimizer: Makes the optimiser of parameter groups.
        learner: Makes the learner.
        learning_rate: A number or a schedule.
        schedule_speed: Multiplies the frames of all schedules.
        precision: ``"float32"`` or ``"bfloat16"``; ``"auto"`` for the faster one.
        device: Device of the network.
        seed: Seeds the order of the frames.
        log: Takes messages.
    """

    def __init__(
        self,
        task: Task,
        *,
        objective: Mapping[str, Any],
        images: Callable[..., RecordedImages],
        optimizer: Callable[..., torch.optim.Optimizer],
        learner: Callable[..., Learner],
        learning_rate: Number,
        schedule_speed: float = 1.0,
        precision: str = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        if precision not in ("auto", *PRECISIONS):
            raise ConfigError(f"precision={precision!r}: must be auto, {' or '.join(PRECISIONS)}")
        self._safetensors = import_extra("safetensors.torch")
        self.learning_rate = make_schedule(learning_rate, name="learning_rate", speed=schedule_speed)
        self.actor = self.make_actor(task, objective=objective, device=device)
        self.policy = self.actor
        assert isinstance(task, RecordedFrames)
        self.task = task
        self.log = log
        self.memory = images(
            task.folders,
            held_out_share=task.held_out_share,
            num_stacked=task.num_stacked,
            positive_steps=objective.get("positive_steps", 0),
            device=device,
            seed=seed,
        )
        loss = objective["loss"](self.actor.network, image_shape=task.image_shape).to(device)
        if precision == "auto":
            batch = self.memory.batch_of(self.memory.train_frames[: self.memory.batch_size])
            make_learner = partial(learner, optimizer=optimizer, target=None)
            precision, _ = probe_precision(lambda name: make_learner(copy.deepcopy(loss), precision=name), batch)
            log(f"precision: {precision}, which is faster here")
        self.learner = learner(loss, optimizer, target=None, precision=precision)
        for _, value in self.learning_rate.points:
            self.learner.learning_rate = value  # raises for a value that is not a learning rate
        laps = sum(folder.num_laps for folder in task.folders)
        test = len(self.memory.test_frames)
        log(f"{laps:,} laps; {len(self.memory):,} frames to learn from, {test:,} to test on")
        (row,) = task.evaluate(self.actor, num=PROBED_LAPS, seed=0)
        log(f"a linear probe of the untrained encoder: R2 {row['r2_mean']:.3f}")

    @staticmethod
    def make_actor(task: Task, *, objective: Mapping[str, Any], device: torch.device | str = "cpu") -> VisionActor:
        """The encoder as an actor.

        Args:
            task: The recorded laps.
            objective: ``network``, of which ``image`` and ``activation`` are used, and ``loss``.
            device: Device of the network.
        """
        if not isinstance(task, RecordedFrames):
            raise ConfigError("algorithm=pretraining: learns from recorded laps; use env=recorded")
        if set(objective) - {"network", "loss", "positive_steps"} or "loss" not in objective:
            raise ConfigError("objective: algorithm=pretraining needs autoencoder, vae or simclr")
        network = objective["network"]
        if network.get("image") is None:
            raise ConfigError(
                "objective.network.image=null: there is no encoder to train; use network=classic, impala ..."
            )
        made = VisionNetwork(network["image"], activation=network["activation"], **task.network_arguments())
        return VisionActor(made).to(device)

    def schedules(self) -> Schedules:
        """The learning rate."""
        return {"learning_rate": (self.learning_rate, partial(setattr, self.learner, "learning_rate"))}

    def metrics(self) -> dict[str, float]:
        """Counts of updates and epochs, and the loss of laps that are never learnt from."""
        found = {
            "updates": float(self.learner.num_updates),
            "skipped_updates": float(self.learner.num_skipped),
            **self.memory.metrics(),
        }
        batch = self.memory.test_batch()
        if batch is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same shifts and noise each time
                found["test_loss"] = float(self.learner.test(batch))
        return found

    def measure(self) -> dict[str, float]:
        """Nothing takes longer than ``metrics``; the probe is the evaluation."""
        return {}

    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        """Nothing: no lap is driven."""
        return {}

    @torch.no_grad()
    def write_results(self, folder: Path, row: Mapping[str, Any]) -> None:
        """Write the encoder and a picture into the run folder, after the best evaluation so far.

        Args:
            folder: The run folder.
            row: Its results.
        """
        weights = {name: each.contiguous() for name, each in self.actor.network.state_dict().items()}
        encoder = self.actor.network.encoder.get_submodule("pixels")
        facts = {
            "objective": type(self.learner.loss).__name__,
            "encoder": type(encoder).__name__,
            "image_shape": list(self.task.image_shape),
            "num_features": self.actor.network.num_features,
            "tracks": {each.description.track: each.description.track_hash for each in self.task.folders},
            **{name: value for name, value in row.items() if name == "frames" or name.startswith("r2_")},
        }
        with replacing(folder / ENCODER) as partial_file:
            text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
            self._safetensors.save_file(weights, partial_file, metadata={"format": "pt", **text})
        self._write_picture(folder / PICTURE)

    def _write_picture(self, path: Path) -> None:
        """Held-out images and their reconstructions, or their nearest neighbours in other laps."""
        reconstructed = getattr(self.learner.loss, "reconstructed", None)
        shown = self.memory.test_frames_of(NUM_SHOWN)
        pixels = self.memory.pixels_of(shown)
        if reconstructed is not None:
            device = next(self.actor.parameters()).device
            found = reconstructed(pixels.to(device)).float().cpu()
            rows = {"recorded": scaled_images(pixels), "reconstructed": found}
        else:
            others = self.memory.neighbours_of(shown, partial(features_of, self.actor, self.memory))
            rows = {"recorded": scaled_images(pixels)}
            rows |= {
                f"neighbour {n + 1}": scaled_images(self.memory.pixels_of(others[:, n])) for n in range(others.shape[1])
            }
        write_picture_table(path, {name: each[:, -1].numpy() for name, each in rows.items()})

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the parts hold everything."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
