"""Agents to share: a folder of weights, settings, laps and a page about them, with nothing that is executed."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tm_torchrl.agents.agent import Agent, load_agent
from tm_torchrl.data.saving.weights import MODEL, run_weights, write_tensors
from tm_torchrl.lazy import extras_named
from tm_torchrl.record.plots import driven_line, medal_times
from tm_torchrl.record.run_folder import best_laps, load_time, read_evaluations
from tm_torchrl.tracks import BUILTIN_TRACKS, load_track
from tm_torchrl.tracks.files.array_files import read_arrays
from tm_torchrl.world.car_row import CAR_ROW

HUB = "hf:"
PICTURE = "lap.png"
FILES = (MODEL, "config.yaml", "evaluations.jsonl", "README.md", PICTURE, "laps/*.npz", "laps/*.inputs")


def push(run: Path, target: str, *, trust: Sequence[str] = ()) -> str:
    """Share the best network of a run; returns where it is.

    Args:
        run: The run folder.
        target: A folder that does not exist yet, or ``hf:USER/NAME``, a repository of the Hugging Face hub, which is
            made if it is missing.
        trust: Packages, besides this one, whose classes the run's settings may name; others will need them too.
    """
    if not target.startswith(HUB):
        pack(run, Path(target), trust=trust)
        return target
    name, revision = _hub_name(target)
    if revision is not None:
        raise ValueError(f"target={target}: must be hf:USER/NAME; a revision is for pulling")
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "agent"
        pack(run, packed, name=target, trust=trust)
        hub.create_repo(name, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=packed, allow_patterns=list(FILES))
    return f"https://huggingface.co/{name}"


def pull(source: str, folder: Path, *, trust: Sequence[str] = ()) -> Agent:
    """Fetch an agent that was shared, and check it before its folder is there.

    Args:
        source: ``hf:USER/NAME``, with ``@REVISION`` for another than the newest, or a folder.
        folder: Where it goes; must not exist.
        trust: Packages, besides this one, whose classes its settings may name.
    """
    if folder.exists():
        raise FileExistsError(f"folder={folder}: exists already; name another one, or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        fetched = Path(made) / "agent"
        if source.startswith(HUB):
            name, revision = _hub_name(source)
            _hub().snapshot_download(
                name, revision=revision, allow_patterns=list(FILES), local_dir=Path(made) / "downloaded"
            )
            _copy(Path(made) / "downloaded", fetched)
        else:
            if not Path(source).is_dir():
                raise FileNotFoundError(f"source={source}: must be hf:USER/NAME or a folder")
            _copy(Path(source), fetched)
        if not (fetched / MODEL).is_file():
            raise FileNotFoundError(f"source={source}: has no {MODEL}; agents are shared with tm-torchrl push")
        agent = load_agent(fetched, trust=trust)
        fetched.rename(folder)
    return agent


def pack(run: Path, folder: Path, *, name: str | None = None, trust: Sequence[str] = ()) -> None:
    """Write the files of an agent that is shared.

    Args:
        run: The run folder.
        folder: Must not exist.
        name: Where others will find it, for its page.
        trust: Packages, besides this one, whose classes the run's settings may name.
    """
    if folder.exists():
        raise FileExistsError(f"target={folder}: exists already; name another folder, or delete it")
    weights, manifest = run_weights(run)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        packed = Path(made) / "agent"
        _copy(run, packed)
        notes = {"manifest": json.dumps({key: manifest.get(key) for key in ("frames", "facts")})}
        write_tensors(packed / MODEL, weights, notes=notes)
        laps = best_laps(packed)
        if laps and next(iter(laps)) in BUILTIN_TRACKS:
            _draw(next(iter(laps)), next(iter(laps.values())), packed / PICTURE)
        (packed / "README.md").write_text(
            page_of(packed, load_agent(packed, trust=trust), name=name or folder.name), encoding="utf-8"
        )
        packed.rename(folder)


def page_of(folder: Path, agent: Agent, *, name: str) -> str:
    """The page about an agent, in the form that the hub reads.

    Args:
        folder: The folder of the agent.
        agent: The agent.
        name: Where others find it.
    """
    rows = read_evaluations(folder)
    own = [row for row in rows if row.get("frames") == agent.facts.get("frames")]  # of the network that is shared
    results = {str(row.get("track", row.get("task"))): row for row in own or rows}
    laps = {track: load_time(path) for track, path in best_laps(folder).items()}
    lines = [
        "---",
        "library_name: tm_torchrl",
        "tags: [reinforcement-learning, torchrl, trackmania]",
        "---",
        "",
        f"# {name}",
        "",
        f"An agent of tm_torchrl: {agent.description}.",
        "",
        "| track | best lap of its training | medal | finished, evaluation | median lap |",
        "|---|--:|---|--:|--:|",
    ]
    for track, row in results.items():
        best, times = laps.get(track), medal_times(track)
        medal = next((each for each, at_s, _ in reversed(times) if best is not None and best <= at_s), "-")
        median = _cell(row.get("median_lap_s"), ".2f", " s")
        shown = " ".join(track.replace("|", " ").split())
        if "track" not in row:
            shown += f" (mean return {_cell(row.get('return_mean'), '.1f')})"
        rate = _cell(row.get("finish_rate"), ".0%")
        lines.append(f"| {shown} | {_cell(best, '.2f', ' s')} | {medal} | {rate} | {median} |")
    if (folder / PICTURE).is_file():
        lines += ["", f"![The best lap, coloured by speed]({PICTURE})"]
    source = name if name.startswith(HUB) else f"FOLDER_OF/{name}"
    lines += ["", "```bash", f"tm-torchrl pull {source} agent", "tm-torchrl evaluate agent", "tm-torchrl watch agent"]
    lines += ["```", "", "Its times are those of tm_torchrl's simulator, not of the game.", ""]
    return "\n".join(lines)


def _cell(value: object, form: str, unit: str = "") -> str:
    is_number = isinstance(value, (int, float)) and abs(value) < 1e9
    return f"{value:{form}}{unit}" if is_number else "-"


def _copy(source: Path, target: Path) -> None:
    """Copy the files of an agent, and nothing else; links are left out."""
    target.mkdir()
    for pattern in FILES:
        for path in source.glob(pattern):
            if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
                (target / path.relative_to(source)).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target / path.relative_to(source))


def _draw(track: str, lap: Path, path: Path) -> None:
    rows = read_arrays(lap, names=("rows",))["rows"]
    speed = (rows[:, CAR_ROW["velocity"]] ** 2).sum(1) ** 0.5
    figure = driven_line(
        load_track(track), rows[:, CAR_ROW["position"]], speed, title=f"{track}: {load_time(lap):.2f} s"
    )
    figure.savefig(path, dpi=80)


def _hub_name(text: str) -> tuple[str, str | None]:
    name, _, revision = text.removeprefix(HUB).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise ValueError(f"{text}: must be hf:USER/NAME")
    return name, revision or None


def _hub() -> Any:
    with extras_named():
        return importlib.import_module("huggingface_hub")
