"""``train``: from settings to a finished run folder."""

from __future__ import annotations

import inspect
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from tm_torchrl.agents.agent import Agent
from tm_torchrl.algorithms.learner import AUTO, NonFiniteLossError
from tm_torchrl.algorithms.make import make_algorithm
from tm_torchrl.collectors.clock import Clock
from tm_torchrl.collectors.supervised import WorkerError
from tm_torchrl.data.epochs import Epochs
from tm_torchrl.data.replay import Replay
from tm_torchrl.data.saving.atomic_files import explained_disk_errors
from tm_torchrl.data.sequences import Sequences
from tm_torchrl.data.sharded.replay import ShardedReplay
from tm_torchrl.data.sharded.shards import ReplayLostError
from tm_torchrl.game.errors import GameError
from tm_torchrl.invocation import command
from tm_torchrl.live.report import write_report
from tm_torchrl.record.folder_claim import claim, claim_new
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.settings.construct import ConfigError, construct, construct_as, construct_later
from tm_torchrl.settings.device import choose_device
from tm_torchrl.settings.tree import complete_settings, run_name
from tm_torchrl.tasks.task import Task, make_task
from tm_torchrl.trainers.hooks.compile_updates import CompileUpdates
from tm_torchrl.trainers.hooks.display import Display
from tm_torchrl.trainers.hooks.evaluate import Evaluate
from tm_torchrl.trainers.hooks.evaluation_log import EvaluationLog
from tm_torchrl.trainers.hooks.keep_results import keep_results
from tm_torchrl.trainers.hooks.live_page import LivePage
from tm_torchrl.trainers.hooks.metrics import LogMetrics
from tm_torchrl.trainers.hooks.requests import Requests
from tm_torchrl.trainers.hooks.save import Save
from tm_torchrl.trainers.loop import run_loop, stopped_by_interrupt
from tm_torchrl.trainers.malloc import keep_freed_memory, quick_collections
from tm_torchrl.trainers.options import RunOptions
from tm_torchrl.trainers.resume import continue_from, saved_state
from tm_torchrl.trainers.summary import Summary
from tm_torchrl.trainers.training import Training

Settings = Mapping[str, Any]


def train(
    settings: Settings | Sequence[str] = (),
    *,
    folder: str | Path | None = None,
    is_folder_fixed: bool = True,
    is_quiet: bool = False,
) -> Summary:
    """Train an agent; all results are in the run folder.

    Args:
        settings: Composed settings, or overrides as on the command line (``["env.track=oval", "seed=1"]``).
        folder: The run folder; ``runs/TASK/TIME`` by default.
        is_folder_fixed: Whether a folder that another run uses is an error; otherwise a new one beside it is used.
        is_quiet: Whether to show nothing.
    """
    logging.getLogger("torchrl").setLevel(logging.WARNING)  # torchrl sets its level when it is imported
    composed = complete_settings(settings)
    options = RunOptions.of(composed)
    torch.set_num_threads(options.num_threads)
    keep_freed_memory()
    task = make_task(composed)
    display = Display(f"tm_torchrl: {task.label}", is_quiet=is_quiet)
    with ExitStack() as stack:
        stack.callback(task.close)
        state, precision = None, composed["precision"]
        if options.resume is not None:
            run = RunFolder(stack.enter_context(claim(Path(options.resume))))
            state = saved_state(run, composed, log=display.say)
            precision = state["learner"].get("precision", precision)  # as it was chosen at the start
        training, hooks = _prepare({**composed, "precision": precision}, options, task, display)
        stack.callback(training.source.shutdown)
        if options.resume is None:
            path = default_folder(run_name(composed)) if folder is None else Path(folder)
            may_rename = folder is None or not is_folder_fixed
            run = RunFolder(stack.enter_context(claim_new(path, may_rename=may_rename, log=display.say)))
        stack.callback(run.close)
        if state is None:
            _write_settings(run, composed)
            with explained_disk_errors("the run's facts", run.path):
                run.write_facts(
                    {
                        "seed": options.seed,
                        "command": sys.argv,
                        "precision": training.algorithm.learner.state_dict().get("precision"),
                        "device": str(choose_device(options.device)),
                    }
                )
        with display, quick_collections():
            _run(training, hooks, run, composed, state)
        _write_report(run, display.say)
        summary = Summary(
            folder=run.path,
            agent=Agent(composed, task, training.algorithm.actor, facts={"frames": training.frames}),
            frames=training.frames,
            seconds=training.seconds,
            reason=training.stop_reason,
            rows=hooks.evaluate.rows,
            best_rows=hooks.evaluate.best_rows,
            settings=composed,
            problem=hooks.save.problem,
        )
        display.say(str(summary))
        return summary


def make_training(
    settings: Settings,
    task: Task,
    *,
    device: torch.device | str = "cpu",
    log: Callable[[str], None] = lambda message: None,
) -> Training:
    """The parts of a training, without hooks.

    Args:
        settings: A complete configuration.
        task: What is trained on.
        device: Device of the networks.
        log: Takes messages.
    """
    torch.manual_seed(settings["seed"])
    algorithm = make_algorithm(settings, task, device=device, log=log)
    collector = construct_later(settings.get("collector"), name="collector")
    maker = getattr(algorithm, "env_maker", task)
    given: dict[str, Any] = {}
    if isinstance(algorithm.memory, ShardedReplay):  # which its workers fill
        given["replay"] = algorithm.memory
        if "replay" not in inspect.signature(collector.func).parameters:
            raise ConfigError("replay=sharded: its shards are Ray actors; use collector=ray, or replay=uniform")
    source = collector(maker, algorithm.policy, device=device, seed=settings["seed"], log=log, **given)
    if isinstance(source, Clock) and isinstance(algorithm.memory, (Epochs, Replay, Sequences)):
        raise ConfigError(
            "collector=clock: plays nothing, but this algorithm learns from what is played; use "
            "collector=multi_sync, or give data=... to an algorithm that takes it"
        )
    return Training(
        task=task,
        algorithm=algorithm,
        source=source,
        total_frames=settings["total_frames"],
        max_minutes=settings["max_minutes"],
        schedule_speed=settings["schedule_speed"],
    )


def default_folder(name: str) -> Path:
    """``runs/NAME/TIME``."""
    return Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


@dataclass
class _Hooks:
    """The hooks that every run has."""

    metrics: LogMetrics
    evaluate: Evaluate
    save: Save
    display: Display


def _prepare(composed: Settings, options: RunOptions, task: Task, display: Display) -> tuple[Training, _Hooks]:
    """Make all parts, so that wrong settings are found before there is a folder."""
    log = display.say
    soft_reset = None
    if composed.get("soft_reset") is not None:
        network = construct_later(composed["objective"]["network"], name="objective.network")
        make_network = partial(network, **task.network_arguments())
        soft_reset = construct(composed["soft_reset"], name="soft_reset", make_network=make_network)
    try:
        hooks = _Hooks(
            metrics=construct_as(LogMetrics, composed.get("log"), name="log", sinks=[display], log=log),
            evaluate=construct_as(Evaluate, composed.get("evaluation"), name="evaluation", log=log),
            save=construct_as(Save, composed.get("checkpoint"), name="checkpoint", log=log),
            display=display,
        )
    except ImportError as error:  # a logger that is not installed
        raise ConfigError(str(error)) from error
    training = make_training(
        {**composed, "total_frames": options.total_frames}, task, device=choose_device(options.device), log=log
    )
    requests = Requests(evaluate=hooks.evaluate, save=hooks.save, log=log)
    training.hooks = [hooks.metrics, hooks.evaluate, hooks.save, hooks.display, requests]
    if soft_reset is not None:
        training.hooks.insert(0, soft_reset)
    if getattr(training.algorithm.learner, "compile", False) == AUTO:
        training.hooks.append(CompileUpdates(log=log))
    if options.live:
        port = 0 if options.live is True else options.live
        training.hooks.append(LivePage(port=port, show=display.show, log=log))
    return training, hooks


def _write_settings(run: RunFolder, composed: Settings) -> None:
    with explained_disk_errors("the run's settings", run.path):
        run.write_config(yaml.safe_dump({**composed, "resume": None}, sort_keys=False, allow_unicode=True))


def _run(training: Training, hooks: _Hooks, run: RunFolder, composed: Settings, state: dict[str, Any] | None) -> None:
    """Train with open hooks; evaluate and save at the end, also after an error."""
    log, save = hooks.display.say, hooks.save
    try:
        for hook in training.hooks:
            hook.open(training, run)
        evaluation_log = EvaluationLog(hooks.metrics.loggers, log=log)
        hooks.evaluate.listeners += [hooks.display.evaluated, keep_results(run, log), evaluation_log, save.save_best]
        if state is None:
            save.begin(training)
        else:
            continue_from(training, state, replay_logs=save.replay_logs, run=run, log=log)
            _write_settings(run, composed)  # not before they have proved to fit the state
        with stopped_by_interrupt(training, may_be_forced=False):
            try:
                hooks.display.refresh(training)
                run_loop(training)
                if not training.algorithm.learner.num_updates:
                    log(
                        "nothing was learnt: the run ended before the first update, as settings like "
                        "rollouts.frames_per_update and replay.learning_starts want more frames than were played"
                    )
                hooks.display.refresh(training)
                save.finish(training)  # first, since whoever stops the run may not wait for an evaluation
                if hooks.evaluate.finish(training):
                    hooks.display.refresh(training)
                    save.save(training)
            except (WorkerError, ReplayLostError, GameError) as error:
                save.finish(training)  # only collection failed, the networks are fine
                raise type(error)(f"{error}\n{what_is_left(run)}") from error
            except NonFiniteLossError as error:
                raise NonFiniteLossError(f"{error}\n{what_is_left(run)}") from error
            except KeyboardInterrupt:
                log(what_is_left(run))
                raise
        evaluation_log.write_video(training, hooks.evaluate.rows)
    finally:
        for hook in training.hooks:
            hook.close()


def what_is_left(run: RunFolder) -> str:
    """A message that says what remains of a run that failed."""
    last = max(run.checkpoints.glob("frames_*"), default=None)
    frames = 0 if last is None else int(last.name.removeprefix("frames_"))
    return f"The run ended; its checkpoints are complete: resume={run.path} continues from frame {frames:,}"


def _write_report(run: RunFolder, log: Callable[[str], None]) -> None:
    try:
        write_report(run.path)
    except Exception as error:  # a report must never cost the run's result
        log(f"the report could not be written ({error}); try again with {command('report')} {run.path}")
