"""``report.html``: one page about a run, without scripts and external files."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.record import figures
from tm_torchrl.record.clock import clock
from tm_torchrl.record.figures import is_number, numbers, series
from tm_torchrl.record.plots import MEDAL_COLOURS, medal_times
from tm_torchrl.record.run_folder import Row, best_laps, load_time, read_evaluations, read_metrics
from tm_torchrl.record.svg import DARK, LIGHT, inline_svg
from tm_torchrl.settings.text_files import read_text
from tm_torchrl.tracks import BUILTIN_TRACKS, Track, load_track
from tm_torchrl.tracks.files.array_files import read_arrays
from tm_torchrl.tracks.medals import author_actions
from tm_torchrl.world.car_row import CAR_ROW

METRICS = (
    ("train/loss", "loss"),
    ("train/test_loss", "loss on held-out transitions"),
    ("train/loss_reconstruction", "loss of the reconstruction"),
    ("train/loss_kl", "weighted divergence of the latent numbers"),
    ("train/accuracy", "share of actions foretold"),
    ("train/test_accuracy", "share of actions foretold, held-out laps"),
    ("train/gradient_norm", "gradient norm"),
    ("train/kl", "divergence of the updates"),
    ("train/clip_share", "share of clipped ratios"),
    ("train/entropy", "entropy of the policy"),
    ("train/explained_variance", "variance explained by the values"),
    ("episode/return", "return, with exploration"),
    ("episode/terminated", "share of laps that finished, with exploration"),
    ("schedule/epsilon", "epsilon"),
    ("schedule/learning_rate", "learning rate"),
    ("speed/env_steps_per_s", "environment steps per second"),
    ("speed/updates_per_s", "updates per second"),
    ("speed/learner_share", "share of time spent learning"),
    ("diagnostics/action_gap", "action gap"),
    ("diagnostics/policy_churn", "policy churn"),
    ("diagnostics/noise_changes_action", "share of actions that noise changes"),
    ("diagnostics/noise_over_gap", "noise over action gap"),
    ("diagnostics/dormant_share", "dormant neurons"),
    ("diagnostics/effective_rank", "effective rank"),
    ("diagnostics/crossing_rate", "crossing quantiles"),
    ("memory/rss_mb", "memory, MB"),
)
LAST_EVALUATIONS = 5
MOST_BYTES_OF_PICTURE = 4_000_000
FALLING_RETURN = "It may fall while the driver gets better: laps that come further also lose more for their time."


def write_report(run: str | Path) -> Path:
    """Write the page from the files of a run folder; the run may still be going on."""
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"run={folder}: must be an existing run folder")
    evaluations, metrics = _with_frames(read_evaluations(folder)), _with_frames(read_metrics(folder))
    facts, config = _facts(folder), _text(folder / "config.yaml")
    results: dict[str, list[Row]] = {}  # of each track, in the order of the settings, or of a task
    for row in evaluations:
        results.setdefault(str(row.get("track", row.get("task"))), []).append(row)
    laps = best_laps(folder)
    tiles = [_result_tile(name, rows, laps.get(name)) for name, rows in results.items()]
    last = max([*evaluations, *metrics], key=lambda row: row["frames"], default={"frames": 0})
    seconds = last.get("seconds", 0.0)
    tiles.append(_tile("frames", _shown(last["frames"], ",.0f")))
    tiles.append(
        _tile(
            "training time",
            clock(seconds) if is_number(seconds) else "?",
            f"started {str(facts.get('started', '?'))[:16].replace('T', ' ')}",
        )
    )
    sections = [_section(name, _results(name, rows, laps.get(name))) for name, rows in results.items()]
    if picture := _image(folder / "pretraining.png"):
        sections.append(_section("Images of held-out laps", picture))
    has_laps = any("track" in row for row in evaluations)
    page = _PAGE.format(
        title=html.escape(f"{_name(folder)} - tm_torchrl"),
        light=LIGHT,
        dark=DARK,
        heading=f'<h1>{_heading(_name(folder))}</h1><div class="tiles">{"".join(tiles)}</div>',
        body="\n".join(
            [
                *(sections or [_section("Results", "<p>This run has not been evaluated yet.</p>")]),
                _section("Training, over frames", _metrics(metrics, has_laps=has_laps)),
                _section("About", _about(facts, config)),
            ]
        ),
    )
    path = folder / "report.html"
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _with_frames(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if is_number(row.get("frames"))]


def _name(folder: Path) -> str:
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}" if whole.parent.name != "runs" else whole.name


def _heading(name: str) -> str:
    """A name in HTML that breaks after a slash rather than inside a time."""
    return "/".join(f"<span>{html.escape(part)}</span>" for part in name.split("/"))


def _shown(value: object, form: str, unit: str = "") -> str:
    return format(value, form) + unit if is_number(value) else "?"


def _tile(label: str, value: str, note: str = "", *, medal: str | None = None) -> str:
    return (
        f'<div class="tile"><div class="label">{html.escape(label)}</div><div class="value">{html.escape(value)} '
        f'{_badge(medal)}</div><div class="note">{html.escape(note)}</div></div>'
    )


def _badge(medal: str | None) -> str:
    return "" if medal is None else f'<span class="medal" style="background:{MEDAL_COLOURS[medal]}">{medal}</span>'


def _result_tile(name: str, rows: Sequence[Row], lap: Path | None) -> str:
    last = rows[-1]
    if "r2_mean" in last:
        return _tile(f"linear probe, {name}", _shown(last["r2_mean"], ".3f"), "mean R\u00b2 on held-out laps")
    if "track" not in last:
        episodes = f"{last.get('num_episodes', '?')} episodes"
        return _tile(f"mean return on {name}", _shown(last.get("return_mean"), ".1f"), episodes)
    if lap is not None:
        time = load_time(lap)
        medal = next((medal for medal, at_s, _ in reversed(medal_times(name)) if time <= at_s), None)
        share = f"{_shown(last.get('finish_rate'), '.0%')} of the last {last.get('num_laps', '?')} laps finished"
        return _tile(f"best lap on {name}", f"{time:.2f} s", share, medal=medal)
    farthest = max((metres for row in rows for metres in numbers(row, "progress_m")), default=None)
    track = _built_in(name)
    goal = f"of {track.length:.0f} m; " if track is not None else ""
    return _tile(f"farthest on {name}", _shown(farthest, ".0f", " m"), f"{goal}no lap has finished yet")


def _results(name: str, rows: Sequence[Row], lap_file: Path | None) -> str:
    track, parts = _built_in(name), []
    if "r2_mean" in rows[-1]:
        caption = (
            "How much of speed, lateral offset and curvature a linear map of the features explains, 1 for all of it."
        )
        parts = [_picture(figures.probe_curve(rows), f"{name}: linear probe over frames", caption)]
    elif "track" not in rows[-1]:
        caption = "Returns of the episodes of each evaluation, played without exploration."
        parts = [_picture(figures.return_curve(rows), f"{name}: returns over frames", caption)]
    elif curve := figures.lap_curves(rows, track=name):
        caption = "Laps of each evaluation, driven without exploration."
        parts = [f"<div>{_picture(curve, f'{name}: lap times over frames', caption)}{_histogram(name, rows)}</div>"]
    else:
        progress = figures.progress_curves(rows, length_m=None if track is None else track.length)
        caption = "How far the laps of each evaluation came, driven without exploration."
        parts = [_picture(progress, f"{name}: metres over frames", caption)]
    if lap_file is not None:
        parts += _best_lap(name, track, _read_lap(lap_file), load_time(lap_file))
    if not any(parts):
        reached = numbers(rows[-1], "progress_m")
        median = f"The median lap came {np.median(reached):.0f} m. " if reached else ""
        return f"<p>{median}A curve needs two evaluations with results.</p>"
    return f'<div class="grid">{"".join(parts)}</div>'


def _histogram(name: str, rows: Sequence[Row]) -> str:
    times = [time for row in rows[-LAST_EVALUATIONS:] for time in numbers(row, "lap_times_s")]
    if len(set(times)) < 2:
        return ""
    last = f"the last {LAST_EVALUATIONS} evaluations" if len(rows) > LAST_EVALUATIONS else "all evaluations"
    caption = f"Times of the {len(times)} finished laps of {last}."
    return _picture(figures.lap_histogram(times, track=name), f"{name}: histogram of lap times", caption)


def _medal_table(name: str, best_s: float) -> str:
    medals = medal_times(name)
    if not medals:
        return ""
    lines = [(best_s, "<b>best lap</b>", "")]
    for medal, at_s, _ in medals:
        gap = f"won by {at_s - best_s:.2f} s" if best_s <= at_s else f"{best_s - at_s:.2f} s to go"
        lines.append((at_s, _badge(medal), gap))
    cells = "".join(f"<tr><td>{who}</td><td>{time:.2f} s</td><td>{gap}</td></tr>" for time, who, gap in sorted(lines))
    return f"<figure><table><tr><th>medal</th><th>time</th><th></th></tr>{cells}</table></figure>"


def _best_lap(name: str, track: Track | None, lap: dict[str, np.ndarray] | None, best_s: float) -> list[str]:
    """Tables of medals and lost time, and the map and traces of the kept lap, if its file can be read."""
    medals, author = _medal_table(name, best_s), _author_rows(name)
    if lap is None:
        return [medals]
    sectors = ""
    caption = f"The kept lap, {best_s:.2f} s."
    if author is not None and track is not None:
        sectors = _sector_table(_gate_times(lap["rows"]), _gate_times(author), num_laps=track.num_laps)
        caption += f" Dashed: the author's, {_gate_times(author)[-1]:.2f} s."
    hits = len(figures.wall_hits(lap["rows"]))
    if hits:
        caption += f" x: {hits} wall hit{'' if hits == 1 else 's'}."
    keys = "Speed, keys, and the value of the action: mean and quantiles." if "quantiles" in lap else "Speed and keys."
    return [
        f"<div>{medals}{sectors}</div>" if medals or sectors else "",
        _picture(figures.lap_map(lap["rows"], track=track, author=author), f"{name}: line of the best lap", caption),
        _picture(figures.lap_traces(lap), f"{name}: best lap over time", f"{keys} x: wall hit." if hits else keys),
    ]


def _gate_times(rows: np.ndarray) -> np.ndarray:
    """Race times in seconds at the gates that a lap has passed, the finish last."""
    passed = np.flatnonzero(np.diff(rows[:, CAR_ROW.start("checkpoint_count")]) > 0) + 1
    return rows[passed, CAR_ROW.start("last_checkpoint_time_ms")] / 1000.0


def _sector_table(ours: np.ndarray, author: np.ndarray, *, num_laps: int) -> str:
    if len(ours) != len(author):
        return ""
    pairs = np.diff(np.stack([ours, author]), axis=1, prepend=0.0).T
    lost, per_lap = pairs[:, 0] - pairs[:, 1], len(ours) // num_laps
    longest = max(float(np.abs(lost).max()), 0.01)
    lines = []
    for i, (own_s, author_s) in enumerate(pairs):
        sector = f"{i % per_lap + 1}" if num_laps == 1 else f"lap {i // per_lap + 1}, {i % per_lap + 1}"
        bar = f"width:{100 * abs(lost[i]) / longest:.0f}%;background:var(--{'orange' if lost[i] > 0 else 'green'})"
        lines.append(
            f"<tr><td>{sector}</td><td>{own_s:.2f} s</td><td>{author_s:.2f} s</td><td>{lost[i]:+.2f} s</td>"
            f'<td><div class="bar" style="{bar}"></div></td></tr>'
        )
    heads = '<tr><th>sector</th><th>best lap</th><th>author</th><th>lost</th><th class="wide"></th></tr>'
    total = f"<tr><td>all</td><td>{ours[-1]:.2f} s</td><td>{author[-1]:.2f} s</td><td>{lost.sum():+.2f} s</td></tr>"
    caption = "Time lost by sector: from gate to gate, whose numbers are on the map."
    return f"<figure><table>{heads}{''.join(lines)}{total}</table><figcaption>{caption}</figcaption></figure>"


def _read_lap(path: Path) -> dict[str, np.ndarray] | None:
    """What is drawn of a kept lap; ``None`` if the file is damaged."""
    try:
        lap = read_arrays(path, names=("rows", "quantiles"))
    except (OSError, ValueError):
        return None
    sound = {
        name: values
        for name, values in lap.items()
        if values.dtype.kind == "f" and values.ndim == 2 and min(values.shape) > 1 and np.abs(values).max() < 1e9
    }
    return sound if "rows" in sound and sound["rows"].shape[1] == CAR_ROW.size else None


def _built_in(name: str) -> Track | None:
    return load_track(name) if name in BUILTIN_TRACKS else None


@cache
def _author_rows(name: str) -> np.ndarray | None:
    """Car rows of the author's lap on a built-in track, driven again."""
    import torch

    from tm_torchrl.sim import Simulator

    track = _built_in(name)
    actions = None if track is None else author_actions(name)
    if actions is None or track is None:
        return None
    world = Simulator(track, num_cars=1)
    world.reset()
    rows = [world.rows()[0].numpy().copy()]
    for action in actions.tolist():
        world.step(torch.tensor([action]))
        rows.append(world.rows()[0].numpy().copy())
    return np.stack(rows)


def _metrics(rows: Sequence[Row], *, has_laps: bool) -> str:
    curves, constants = [], []
    for key, label in METRICS:
        values = series(rows, key)
        values = values[np.isfinite(values)]
        if not len(values) or (key == "episode/terminated" and not has_laps):
            continue
        if np.ptp(values) > 1e-9 * np.abs(values).max():
            caption = FALLING_RETURN if has_laps and key == "episode/return" else ""
            curves.append(_picture(figures.metric_curve(rows, key), f"{label} over frames", caption, title=label))
        else:
            constants.append(f"{label}: {values[-1]:.4g}")
    if not curves and not constants:
        return "<p>No metrics have been written yet.</p>"
    listed = f"<p>Constant, or measured once: {'; '.join(constants)}.</p>" if constants else ""
    if curves and len(rows) >= figures.NUM_ROWS_AVERAGED:
        listed = f"<p>Thick lines are means over 2 % of the rows.</p>{listed}"
    return f'<div class="grid small">{"".join(curves)}{listed}</div>'


def _about(facts: Row, config: str) -> str:
    packages, command = facts.get("packages"), facts.get("command")
    lines = [
        f"commit {facts.get('git') or 'unknown'}, Python {facts.get('python', '?')}, {facts.get('platform', '?')}",
        ", ".join(f"{name} {number}" for name, number in packages.items() if number)
        if isinstance(packages, dict)
        else "",
        f"seed {facts.get('seed', '?')}, {facts.get('precision', '?')}, {facts.get('device', '?')}",
        " ".join(map(str, command)) if isinstance(command, list) else "",
    ]
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines if line)
    return f"<ul>{listed}</ul><details><summary>Settings</summary><pre>{html.escape(config)}</pre></details>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _picture(figure: Figure | None, label: str, caption: str = "", *, title: str = "") -> str:
    if figure is None:
        return ""
    heading = f"<h3>{html.escape(title)}</h3>" if title else ""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{heading}{inline_svg(figure, label)}{below}</figure>"


def _image(path: Path) -> str:
    """A PNG inside the page; empty if there is none, or a link, which could bring any file into the page."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES_OF_PICTURE:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<figure><img src="data:image/png;base64,{data}" alt="{path.stem}" style="max-width:100%"></figure>'


def _facts(folder: Path) -> Row:
    try:
        found = json.loads(_text(folder / "run.json"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    return read_text(path, errors="replace") if path.is_file() else ""


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --page: #f4f6f8; --card: #ffffff;{light} }}
@media (prefers-color-scheme: dark) {{ :root {{ --page: #12181f; --card: #1b232c;{dark} }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 980px; padding: 20px 14px 60px; }}
h1 {{ font-size: 24px; margin: 6px 0 14px; overflow-wrap: anywhere; }}
h1 span {{ display: inline-block; }}
h2 {{ font-size: 19px; margin: 0 0 10px; overflow-wrap: anywhere; }} h3 {{ font-size: 14px; margin: 0; }}
p {{ margin: 0; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin-bottom: 18px; }}
.tile {{ background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 10px 14px;
  overflow-wrap: anywhere; }}
.label, .note, figcaption {{ color: var(--dim); font-size: 13px; }} .value {{ font-size: 22px; font-weight: 600; }}
section {{ background: var(--card); border: 1px solid var(--edge); border-radius: 12px; padding: 14px;
  margin-bottom: 18px; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 20px; }}
.grid.small {{ grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); }}
figure {{ margin: 0; min-width: 0; }} svg {{ width: 100%; max-width: 470px; height: auto; display: block; }}
.grid div figure + figure {{ margin-top: 20px; }}
table {{ border-collapse: collapse; }} th {{ color: var(--dim); font-weight: 500; text-align: left; }}
th, td {{ padding: 5px 12px 5px 0; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.wide {{ width: 100%; }} .bar {{ height: 10px; border-radius: 3px; }}
.medal {{ color: #10161d; border-radius: 9px; padding: 2px 10px; font-size: 13px; font-weight: 500;
  vertical-align: middle; }}
pre {{ overflow-x: auto; font-size: 12.5px; }} summary {{ cursor: pointer; }}
ul {{ color: var(--dim); font-size: 13.5px; padding-left: 20px; overflow-wrap: anywhere; }}
</style></head><body>
{heading}
{body}
</body></html>
"""
