"""Continuing a saved run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tm_torchrl.data import ReplayLog
from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints
from tm_torchrl.data.saving.weights import MODEL
from tm_torchrl.data.sharded.saving import ShardLog
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.settings.tree import differences
from tm_torchrl.trainers.hooks.evaluate import Evaluate
from tm_torchrl.trainers.training import Training

FIXED_GROUPS = ("algorithm", "objective", "optimizer", "estimator", "soft_reset")
FIXED_SETTINGS = (  # names begin with these
    "env._target_",
    "env.name",
    "env.track",
    "env.generated_tracks",
    "env.pixels",
    "env.action_block",
    "env.num_previous",
    "env.transforms",
    "exploration._target_",
    "exploration.mean_steps",
    "replay.num_steps",
    "replay.held_out_share",
)


def saved_state(run: RunFolder, settings: Mapping[str, Any], *, log: Callable[[str], None]) -> dict[str, Any]:
    """The state of the last checkpoint; raises ``ConfigError`` for settings that cannot change within a run.

    Args:
        run: The run folder.
        settings: Settings of the resumed run.
        log: Takes messages.
    """
    before = run_settings(run.path, trust=settings.get("trust") or ())
    ignored = {"resume": None, "trust": None}
    changed = differences({**settings, **ignored}, {**before, **ignored})
    if changed:
        log("settings that differ from those of the run:\n  " + "\n  ".join(changed))
    fixed = [line for line in changed if line.split(":")[0].split(".")[0] in FIXED_GROUPS]
    fixed += [line for line in changed if line.startswith(FIXED_SETTINGS)]
    if fixed:
        raise ConfigError(f"resume={run.path}: {fixed[0]} cannot change within a run; start a new one")
    ended = _ending_at(before["total_frames"], settings, speed=settings["schedule_speed"])
    if settings["total_frames"] > before["total_frames"] and ended:
        log(
            f"schedules that end at {before['total_frames']:,} frames keep their last values from there: "
            f"{', '.join(ended)}; give new ones for the further frames"
        )
    if (run.path / MODEL).is_file() and not run.checkpoints.is_dir():
        raise ConfigError(
            f"resume={run.path}: is an agent that was shared, which has weights and no state of its training; start a "
            f"new run from it: warm_start={{source: {run.path}}}"
        )
    state, manifest = Checkpoints(run.checkpoints).load()
    if not isinstance(state, dict) or not isinstance(state.get("learner"), dict):
        raise CheckpointError(f"{manifest['path']} does not hold the state of a training")
    log(f"resumed from frame {manifest['frames']:,} of {run.path}")
    found: dict[str, Any] = state
    return found


def continue_from(
    training: Training,
    state: dict[str, Any],
    *,
    replay_logs: Mapping[str, ReplayLog | ShardLog],
    run: RunFolder,
    log: Callable[[str], None],
) -> None:
    """Load a state and the contents of the memory; rows that were logged later are removed.

    Args:
        training: A new training.
        state: The state that ``saved_state`` returned.
        replay_logs: The saved contents of the memory, by name.
        run: The run folder.
        log: Takes messages.
    """
    try:
        training.load_state_dict(state)
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"resume={run.path}: the saved state does not fit the settings: {error}") from error
    pending = [hook.pending.frames for hook in training.hooks if isinstance(hook, Evaluate) and hook.pending]
    run.truncate_after(
        training.frames - 1 if training.is_learning else training.frames,  # its updates go on, and are logged then
        evaluated=min([training.frames, *(frames - 1 for frames in pending)]),
    )
    if not training.frames:
        return
    contents = training.algorithm.memory.contents()
    try:
        rows = [replay_log.restore(contents[name]) for name, replay_log in replay_logs.items()]
        if rows:
            log(f"replay restored: {sum(rows):,} transitions")
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        for buffer in contents.values():
            buffer.empty()  # a damaged one may be filled in part
        log(f"the replay could not be restored ({error}): it is filled again before learning continues")


def _ending_at(frames: int, settings: Any, name: str = "", *, speed: float) -> list[str]:
    """Names of the settings that are schedules whose last point is at so many frames."""
    if isinstance(settings, Mapping):
        found = (_ending_at(frames, value, f"{name}.{key}", speed=speed) for key, value in settings.items())
        return [each for names in found for each in names]
    try:
        schedule = make_schedule(settings, name=name, speed=1.0 if name == ".gamma" else speed)
    except (ValueError, TypeError):
        return []
    return [name.removeprefix(".")] if schedule.points[-1][0] == frames else []
