"""``train``: from settings to a finished run folder."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from tm_torchrl.agents.agent import Agent
from tm_torchrl.algorithms.learner import NonFiniteLossError
from tm_torchrl.algorithms.precision import probe_precision
from tm_torchrl.algorithms.quantile import build_actor, build_learner, build_policy
from tm_torchrl.collectors.supervised import WorkerError
from tm_torchrl.data import ReplayLog
from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.evaluation import Laps
from tm_torchrl.game.errors import GameError
from tm_torchrl.record.folder_claim import claim, claim_new
from tm_torchrl.record.loggers import make_loggers, require_loggers
from tm_torchrl.record.report import write_report
from tm_torchrl.record.run_folder import RunFolder, best_laps, load_time, save_lap
from tm_torchrl.settings.checks import REQUIRED, checked, require
from tm_torchrl.settings.construct import ConfigError, construct, construct_later
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.settings.tree import compose_settings, differences, resumed_settings, run_name
from tm_torchrl.tasks.build import Settings, build_task, choose_device
from tm_torchrl.tasks.task import Row, Task
from tm_torchrl.trainers.builders import build_training
from tm_torchrl.trainers.hooks.display import Display, describe
from tm_torchrl.trainers.hooks.evaluate import Evaluate
from tm_torchrl.trainers.hooks.evaluation_log import EvaluationLog
from tm_torchrl.trainers.hooks.metrics import LogMetrics
from tm_torchrl.trainers.hooks.probe import measure_network, random_transitions
from tm_torchrl.trainers.hooks.save import Save
from tm_torchrl.trainers.loop import INTERRUPTED, run_loop
from tm_torchrl.trainers.malloc import keep_freed_memory
from tm_torchrl.trainers.training import Hook, Training
from tm_torchrl.world.input_scripts import script_of


@dataclass
class Summary:
    """How a run ended.

    Args:
        folder: of the run.
        agent: trained.
        frames: played.
        seconds: of training.
        reason: why it ended.
        rows: of the last evaluation.
        best_rows: of the best one.
        settings: of the run.
    """

    folder: Path
    agent: Agent
    frames: int
    seconds: float
    reason: str
    rows: list[Row] = field(default_factory=list)
    best_rows: list[Row] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def train(
    settings: Settings | Sequence[str] = (),
    *,
    folder: str | Path | None = None,
    is_folder_fixed: bool = True,
    config_name: str = "train_iqn",
    is_quiet: bool = False,
) -> Summary:
    """Train an agent; everything that is worth keeping lies in the run folder.

    Args:
        settings: composed settings, or overrides as on the command line (``["env.track=oval", "seed=1"]``).
        folder: of the run; ``runs/TASK/TIME`` by default.
        is_folder_fixed: whether a folder that another run has taken is an error, or a neighbour of it will do.
        config_name: the configuration that overrides change.
        is_quiet: show nothing.
    """
    if isinstance(settings, Mapping):
        wanted: dict[str, Any] = dict(settings)
    else:
        wanted = compose_settings(list(settings), config_name=config_name)
        if wanted["resume"] is not None:
            wanted = resumed_settings(wanted, list(settings), run_settings(wanted["resume"]))
    wanted = checked(wanted)
    require(wanted, REQUIRED)
    torch.set_num_threads(int(wanted["num_threads"]))
    keep_freed_memory()
    task = build_task(wanted)
    refuse_bad_parts(wanted, task)
    try:
        require_loggers(wandb=wanted["log"]["wandb"], mlflow=wanted["log"]["mlflow"])
    except ImportError as error:
        raise ConfigError(str(error)) from error
    if wanted["resume"] is not None:
        claimed = claim(Path(wanted["resume"]))
    elif folder is None:
        claimed = claim_new(default_folder(run_name(wanted)), may_rename=True)
    else:
        claimed = claim_new(Path(folder), may_rename=not is_folder_fixed)
    with claimed as path, Display(f"tm_torchrl: {task.label}", is_quiet=is_quiet) as display:
        return _train_in(RunFolder(path), wanted, task, display)


def refuse_bad_parts(settings: Settings, task: Task) -> None:
    """Raise ``ConfigError`` for parts that cannot be built or do not fit each other, before a folder is made.

    Args:
        settings: composed.
        task: what is trained on.
    """
    with torch.random.fork_rng(devices=[]):
        actor = build_actor(settings, task, device=torch.device("cpu"))
        build_learner(settings, actor, precision="float32")
        build_policy(settings, actor)
        if settings["soft_reset"] is not None:
            build_soft_reset(settings, task)


def build_soft_reset(settings: Settings, task: Task) -> Hook:
    """What makes layers anew now and then, with networks of the run's own settings.

    Args:
        settings: composed.
        task: what is trained on.
    """
    arguments = task.network_arguments()
    network = construct_later(settings["objective"]["network"], name="objective.network", **arguments)
    hook: Hook = construct(settings["soft_reset"], name="soft_reset", make_network=network)
    return hook


def default_folder(name: str) -> Path:
    """``runs/NAME/TIME``."""
    return Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


def _train_in(run: RunFolder, wanted: dict[str, Any], task: Task, display: Display) -> Summary:
    checkpoints = Checkpoints(run.checkpoints, keep=wanted["checkpoint"]["keep"])
    state = _state_to_resume(run, wanted, checkpoints, display) if wanted["resume"] is not None else None
    device = choose_device(wanted["device"])
    precision = state["learner"]["precision"] if state else _choose_precision(wanted, task, device, display)
    run.write_config(yaml.safe_dump({**wanted, "resume": None}, sort_keys=False, allow_unicode=True))
    if state is None:
        run.write_facts({"seed": wanted["seed"], "command": sys.argv, "precision": precision, "device": str(device)})
    training = build_training(wanted, task=task, precision=precision, device=device, log=display.say)
    replay_logs = {name: ReplayLog(run.replay / name) for name in training.replay.buffers}
    save = Save(
        checkpoints,
        replay_logs=replay_logs,
        first_minutes=wanted["checkpoint"]["first_minutes"],
        every_minutes=wanted["checkpoint"]["every_minutes"],
        replay_every_minutes=wanted["checkpoint"]["replay_every_minutes"],
        log=display.say,
    )
    loggers = make_loggers(run, **{name: wanted["log"][name] for name in ("tensorboard", "wandb", "mlflow")})
    evaluation_log = EvaluationLog(loggers, log=display.say)
    metrics = LogMetrics(
        [run.metrics, *loggers, display],
        every_frames=wanted["log"]["every_frames"],
        diagnostics=measure_network,
        diagnostics_every=wanted["log"]["diagnostics_every"],
        log=display.say,
    )
    evaluate = Evaluate(
        task,
        training.actor,
        num=wanted["evaluation"]["num"],
        every_frames=wanted["evaluation"]["every_frames"],
        seed=wanted["evaluation"]["seed"],
        target_score=wanted["evaluation"]["target_score"],
        listeners=[display.evaluated, keep_results(run, display.say), evaluation_log, save.save_best],
    )
    training.hooks = [metrics, evaluate, save, display]
    if wanted["soft_reset"] is not None:
        training.hooks.insert(0, build_soft_reset(wanted, task))
    try:
        if state is not None:
            _resume(training, state, replay_logs, run, display)
        try:
            run_loop(training)
            if not evaluate.rows or evaluate.rows[0]["frames"] != training.frames:
                with saved_if_interrupted(training, save):
                    evaluate.evaluate(training)
        except (WorkerError, GameError) as error:
            save.finish(training)  # what was learnt is good; only driving is impossible
            raise type(error)(f"{error}\n{what_is_left(run)}") from error
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"{error}\n{what_is_left(run)}") from error
        except KeyboardInterrupt:
            display.say(what_is_left(run))
            raise
        display.refresh(training)
        save.finish(training)
        evaluation_log.write_video(training, evaluate.rows)
    finally:
        training.collector.shutdown()
        task.close()
        for logger in loggers:
            logger.close()
        run.close()
    try:
        write_report(run.path)
    except Exception as error:  # a picture must never cost the run's result
        display.say(f"no report was written ({error}); python scripts/report.py {run.path} tries again")
    agent = Agent(wanted, task, training.actor, facts={"frames": training.frames})
    return Summary(
        folder=run.path,
        agent=agent,
        frames=training.frames,
        seconds=training.seconds,
        reason=training.stop_reason,
        rows=evaluate.rows,
        best_rows=evaluate.best_rows,
        settings=wanted,
    )


@contextmanager
def saved_if_interrupted(training: Training, save: Save) -> Iterator[None]:
    """Ctrl-C in the last evaluation ends it, but costs nothing that was learnt."""
    try:
        yield
    except KeyboardInterrupt:
        save.finish(training)
        raise


def what_is_left(run: RunFolder) -> str:
    """What a person can do with a run that failed."""
    if any(run.checkpoints.glob("frames_*")):
        return f"The run ended; its checkpoints are whole: resume={run.path} goes on from the last one"
    return f"The run ended before its first checkpoint; its settings are in {run.path}"


def keep_results(run: RunFolder, log: Callable[[str], None]) -> Callable[[Training, list[Row], bool], None]:
    """Writes evaluations into the run folder, and the fastest lap of each track with its quantiles."""

    def keep(training: Training, rows: list[Row], is_best: bool) -> None:
        try:
            write(training, rows)
        except OSError as error:
            log(f"an evaluation could not be written: {error}; training goes on")

    def write(training: Training, rows: list[Row]) -> None:
        fastest = {track: load_time(path) for track, path in best_laps(run.path).items()}
        for row in rows:
            laps: Laps | None = row.get("laps")
            run.add_evaluation({key: value for key, value in row.items() if key != "laps"})
            if laps is None or laps.best_lap_s is None or laps.best_lap_s >= fastest.get(row["track"], math.inf):
                continue
            arrays = {"rows": laps.rows, "actions": laps.actions, "start": laps.start}
            if "pixels" not in training.task.in_keys:
                agent = Agent({}, training.task, training.actor)
                arrays["quantiles"], arrays["action_values"] = agent.values_of_actions(laps.observations, laps.actions)
            save_lap(run.path, row["track"], laps.best_lap_s, script=script_of(laps.actions), **arrays)

    return keep


def _choose_precision(wanted: dict[str, Any], task: Task, device: torch.device, display: Display) -> str:
    """What was asked for, or the faster one; the choice is kept with the run, so a resumed run does not probe."""
    if wanted["precision"] != "auto":
        return str(wanted["precision"])
    with torch.random.fork_rng():
        actor = build_actor(wanted, task, device=device)
        batch = random_transitions(task, size=wanted["replay"]["batch_size"], device=device)
        chosen, rates = probe_precision(
            lambda precision: build_learner(wanted, actor, precision=precision), batch, seconds=2.0
        )
    listed = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    display.say(f"precision: {chosen} (updates/s in a 2 s probe: {listed})")
    return chosen


def _state_to_resume(
    run: RunFolder, wanted: dict[str, Any], checkpoints: Checkpoints, display: Display
) -> dict[str, Any]:
    """The checkpoint to go on from; settings that may not change are refused."""
    before = run_settings(run.path)
    changed = differences({**wanted, "resume": None}, {**before, "resume": None})
    if changed:
        display.say("settings that differ from the run's:\n  " + "\n  ".join(changed))
    fixed = [line for line in changed if line.split(":")[0].split(".")[0] in ("objective", "optimizer", "estimator")]
    fixed += [line for line in changed if line.startswith(("env.pixels", "env.action_block", "env.num_previous"))]
    if fixed:
        raise ConfigError(f"resume={run.path}: {fixed[0]} cannot change within a run; start a new one")
    state, manifest = checkpoints.load()
    display.say(f"resumed from frame {manifest['frames']:,} of {run.path}")
    found: dict[str, Any] = state
    return found


def _resume(
    training: Training, state: dict[str, Any], replay_logs: Mapping[str, ReplayLog], run: RunFolder, display: Display
) -> None:
    training.load_state_dict(state)
    run.truncate_after(training.frames)
    try:
        found = {name: log.restore(training.replay.buffers[name]).rows for name, log in replay_logs.items()}
        display.say(f"replay restored: {found['train']:,} transitions")
    except (OSError, RuntimeError, ValueError) as error:
        display.say(f"the replay was not restored ({error}): it fills anew before learning goes on")


def _more(summary: Summary) -> str:
    """What ended the run, doubled; nothing if it was interrupted."""
    settings = summary.settings
    if summary.frames >= settings["total_frames"]:
        return f" total_frames={2 * summary.frames}"
    minutes, target = settings["max_minutes"], settings["evaluation"]["target_score"]
    if minutes is not None and summary.seconds >= 60 * minutes:
        return f" max_minutes={2 * minutes:g}"
    return "" if target is None or summary.reason == INTERRUPTED else " evaluation.target_score=null"


def summary_text(summary: Summary) -> str:
    """What a person reads at the end."""
    minutes = summary.seconds / 60
    lines = [f"Ended after {summary.frames:,} frames in {minutes:.1f} minutes: {summary.reason}."]
    lines += [f"  last:  {describe(row)}" for row in summary.rows]
    lines += [f"  best:  {describe(row)} (frame {row['frames']:,})" for row in summary.best_rows]
    whole = summary.folder.resolve()
    folder = whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole
    shown = shlex.quote(str(folder))
    resume = f"resume={folder}" if shown == str(folder) else f"resume='{folder}'"  # Hydra has quotes of its own
    lines += [
        f"Run folder: {whole}",
        f"  report:    {folder / 'report.html'}",
        f"  evaluate:  python scripts/evaluate.py {shown}",
        *([f"  watch:     python scripts/watch.py {shown}"] if "track" in summary.rows[0] else []),
        f"  go on:     python scripts/train_iqn.py {shlex.quote(resume)}{_more(summary)}",
    ]
    return "\n".join(lines)
