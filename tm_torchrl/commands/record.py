"""Record laps to learn from: a folder of demonstrations for algorithm=cloning.

tm-torchrl record                                    # 100 laps like the author's, each from another start
tm-torchrl record oval --laps 200 --pixels           # with the camera's images
tm-torchrl record hillside --driver best.inputs      # laps like those of a script for TMInterface
tm-torchrl record hillside --driver runs/hillside/TIME --starts line --disturbed 0    # a trained agent's
tm-torchrl record hillside --student CLONE --out more    # corrects the clone, which drives half of the time
tm-torchrl train algorithm=cloning data=demonstrations/hillside

Laps that do not finish are left out, except with --steps. Can be stopped at any time: the same command goes on where it
was, and a larger --laps adds laps. Each lap depends on --seed and its number alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from tm_torchrl.agents import load_agent
from tm_torchrl.agents.agent import Agent
from tm_torchrl.commands.parser import parser_for
from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.writer import DemonstrationWriter, DrivenLap
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation.laps import RaceSteps
from tm_torchrl.evaluation.recording import LIMITS, STARTS, Disturbances, SeededSampling, record_attempts
from tm_torchrl.modules.policy_value import PolicyActor
from tm_torchrl.settings.stored import find_run
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.lap_follower import LapFollower
from tm_torchrl.sim.search import replay_lap
from tm_torchrl.tasks import TrackManiaTask
from tm_torchrl.tracks import DEFAULT_TRACK, Track, load_track
from tm_torchrl.tracks.medals import medals_of, shipped_lap
from tm_torchrl.world.drivers import Driver, Pursuit
from tm_torchrl.world.input_scripts import read_script

LAPS = ("author", "record")
MOST_FAILURES = 200  # attempts in a row without a finish, after which recording ends
Act = Callable[[], Tensor]


class Recorder:
    """What drives: an environment, the driver's actions in it, and those of a student.

    Args:
        track: The track.
        driver: ``author``, ``record``, ``scripted``, a script of inputs, or a run folder.
        student: A run folder, or ``None``.
        num_cars: Cars that drive at once.
        starts: Name of a choice of starts.
        pixels: Whether images are recorded.
        sampled: Seeds the driver's actions, which are drawn from its policy; ``None`` for a greedy driver.
        trust: Further packages whose classes a run may name.
    """

    def __init__(
        self,
        track: Track,
        *,
        driver: str,
        student: str | None,
        num_cars: int,
        starts: str,
        pixels: bool,
        sampled: int | None,
        trust: list[str],
    ) -> None:
        is_scripted = driver in (*LAPS, "scripted") or Path(driver).suffix in (".inputs", ".txt")
        self.agent = None if is_scripted else agent_of(driver, option="--driver", trust=trust)
        self.student = None if student is None else agent_of(student, option="--student", trust=trust)
        if sampled is not None and not (self.agent is not None and isinstance(self.agent.actor, PolicyActor)):
            raise ValueError(f"--sampled {sampled}: only actions of a policy can be drawn; use its run as --driver")
        self._sampled = sampled
        tasks: list[Any] = [each.task for each in (self.agent, self.student) if each is not None]
        shapes = {(task.action_block, task.num_previous_actions) for task in tasks} or {(1, 5)}
        if len(shapes) > 1 or (is_scripted and min(shapes)[0] != 1):
            raise ValueError(
                f"--student {student}: must have the env.action_block and num_previous_actions of --driver"
            )
        ((action_block, num_previous_actions),) = shapes
        self.world = Simulator(
            track,
            num_cars=num_cars,
            starts=STARTS[starts],
            image_size=64 if pixels or any("pixels" in task.in_keys for task in tasks) else None,
        )
        self.env = TrackManiaEnv(
            num_cars,
            world=self.world,
            pixels=self.world.camera is not None,
            action_block=action_block,
            num_previous_actions=num_previous_actions,
            limits=LIMITS,
        )
        self._scripted = scripted(driver, track, self.world) if is_scripted else None

    def act(self, *, first: int, seed: int) -> Act:
        """The driver's actions from new starts, or what each action costs it.

        Args:
            first: Number of the first car's attempt.
            seed: Of the starts.
        """
        if self.agent is not None and self._sampled is not None:
            attempts, actor = range(first, first + self.world.num_cars), self.agent.actor
            policy = SeededSampling(actor, attempts=attempts, seed=seed, sampling_seed=self._sampled)
            return RaceSteps(self.env, policy).act
        if self._scripted is None:
            return self._acting(self.agent)
        race = self.env.race
        driver = self._scripted.costs if isinstance(self._scripted, LapFollower) else self._scripted
        return lambda: driver(race.world.rows(), race.tracker)

    @property
    def weighs_actions(self) -> bool:
        """Whether ``act`` gives what each action costs."""
        return isinstance(self._scripted, LapFollower)

    def student_act(self) -> Act | None:
        """The student's actions from new starts."""
        return None if self.student is None else self._acting(self.student)

    def _acting(self, agent: Agent | None) -> Act:
        assert agent is not None
        return RaceSteps(self.env, agent.actor).act


def agent_of(run: str, *, option: str, trust: list[str]) -> Agent:
    """The agent of a run, which must drive in the simulator.

    Args:
        run: The run folder.
        option: The option's name, for messages.
        trust: Further packages whose classes a run may name.
    """
    agent = load_agent(find_run(run), trust=trust)
    if not isinstance(agent.task, TrackManiaTask) or agent.task.transforms:
        raise ValueError(f"{option} {run}: must be a run of env=trackmania without transforms")
    return agent


def scripted(driver: str, track: Track, world: Simulator) -> Driver:
    """The driver that follows a lap of the package or a script, or the one behind the medals.

    Args:
        driver: ``author``, ``record``, ``scripted``, or a script of inputs.
        track: The track.
        world: The simulator that it drives in.
    """
    if driver == "scripted":
        return Pursuit([track], world.track_index)
    actions = (
        shipped_lap(track.name, driver, option=f"--driver {driver}", advice="use --driver scripted")
        if driver in LAPS
        else read_script(driver)
    )
    if actions.ndim > 1:
        raise ValueError(f"--driver {driver}: changes keys within 50 ms; only whole steps can be followed")
    lap = replay_lap(track, actions)
    if lap is None:
        raise ValueError(f"--driver {driver}: its inputs do not finish {track.name!r} from the start line")
    return LapFollower(world, lap)


def record(recorder: Recorder, writer: DemonstrationWriter, args: argparse.Namespace) -> None:
    """Record until the folder has enough laps, with a progress bar."""
    disturbances = Disturbances(args.disturbed, seed=args.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
    failures = 0
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(writer.description.track, total=args.laps, state="", completed=writer.num_laps)
        while writer.num_laps < args.laps:
            found = record_attempts(
                recorder.env,
                recorder.act(first=writer.num_attempts, seed=args.seed),
                first=writer.num_attempts,
                seed=args.seed,
                disturbances=disturbances,
                student=recorder.student_act(),
                weighs_actions=recorder.weighs_actions,
                keeps_pixels=args.pixels,
                num_steps=args.steps,
            )
            laps: list[DrivenLap] = []
            num_attempts = 0
            for lap in found:
                if len(laps) == args.laps - writer.num_laps:
                    break
                num_attempts += 1
                failures = failures + 1 if lap is None else 0
                laps += [] if lap is None else [lap]
            writer.add(laps, num_attempts=num_attempts)
            lost = writer.num_attempts - writer.num_laps
            state = f"{writer.num_laps} laps, {writer.num_frames:,} frames, {lost} attempts left out"
            progress.update(task, completed=writer.num_laps, state=state)
            if failures >= MOST_FAILURES:
                raise ValueError(f"--driver {args.driver}: {failures} attempts in a row did not finish")


def main() -> None:
    """Record and say what came of it."""
    parser = parser_for("record", __doc__)
    parser.add_argument("track", nargs="?", default=DEFAULT_TRACK, help="a built-in name or a .npz file")
    text = "author or record (laps of the package), scripted, a script (.inputs, .txt) or a run"
    parser.add_argument("--driver", default="author", help=text)
    parser.add_argument("--laps", type=int, default=100, help="laps to record")
    parser.add_argument("--starts", choices=STARTS, default="perturbed", help="where laps begin")
    text = "share of the steps with a random action instead of the driver's"
    parser.add_argument("--disturbed", type=float, default=0.05, help=text)
    text = "a run that drives half of the time, in stretches; the driver says what it should have done"
    parser.add_argument("--student", metavar="RUN", help=text)
    text = "draw the actions of a policy's run instead of the most probable ones; the number seeds them"
    parser.add_argument("--sampled", type=int, metavar="SEED", help=text)
    text = "end laps after so many steps of 50 ms, and keep those that do not finish too"
    parser.add_argument("--steps", type=int, help=text)
    parser.add_argument("--pixels", action="store_true", help="record the camera's images too: 4 KB a frame")
    parser.add_argument("--seed", type=int, default=0, help="of starts and random actions")
    parser.add_argument("--cars", type=int, default=32, help="cars that drive at once; changes no lap")
    parser.add_argument("--out", type=Path, help="the folder (demonstrations/TRACK)")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="whose classes a run may name")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, least in (("laps", 1), ("cars", 1), ("steps", 1), ("seed", 0), ("sampled", 0)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise SystemExit(f"error: --{name} {getattr(args, name)}: must be at least {least}")
    try:
        track = load_track(args.track)
        recorder = Recorder(
            track,
            driver=args.driver,
            student=args.student,
            num_cars=args.cars,
            starts=args.starts,
            pixels=args.pixels,
            sampled=args.sampled,
            trust=args.trust,
        )
        env, medals = recorder.env, medals_of(track.name)
        description = Description.of(
            track,
            driver=f"record, {medals.record.time_s:.2f} s" if args.driver == "record" and medals else args.driver,
            state_size=recorder.world.save().shape[1],
            action_block=1 if env.action_spec.ndim == 1 else env.action_spec.shape[1],
            num_previous_actions=env.race.tracker.num_previous_actions,
            image_size=recorder.world.image_size if args.pixels else None,
            weighs_actions=recorder.weighs_actions,
            settings={
                "starts": args.starts,
                "disturbed": args.disturbed,
                "student": args.student,
                "seed": args.seed,
                **{name: value for name in ("sampled", "steps") if (value := getattr(args, name)) is not None},
            },
        )
        out = args.out or Path("demonstrations") / track.name
        writer = DemonstrationWriter(out, description)
        record(recorder, writer, args)
        told(writer, out)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None


def told(writer: DemonstrationWriter, out: Path) -> None:
    """Say what the folder holds."""
    times_s = DemonstrationFolder(out).lap_time_s
    finished_s = times_s[~np.isnan(times_s)]
    what, lost = "laps", writer.num_attempts - len(finished_s)
    end = "" if not lost else f"; {lost} attempts did not finish"
    if len(finished_s) < len(times_s):  # --steps ended some
        what, end = "attempts", f"; {len(finished_s)} of them finished"
    if len(finished_s):
        best, median, slowest = min(finished_s), np.median(finished_s), max(finished_s)
        end = f"; best {best:.2f} s, median {median:.2f} s, slowest {slowest:.2f} s{end}"
    print(f"{writer.description.track}: {writer.num_laps} {what} of {writer.num_frames:,} frames in {out}{end}")
