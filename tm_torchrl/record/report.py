"""``report.html``: one page about a run, without external files."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tm_torchrl.data.saving.atomic_files import replacing
from tm_torchrl.record import figures
from tm_torchrl.record.plots import MEDAL_COLOURS, driven_line, medal_times
from tm_torchrl.record.run_folder import Row, best_laps, load_lap, load_time, read_evaluations, read_metrics
from tm_torchrl.tracks import BUILTIN_TRACKS, Track, load_track
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.car_row import CAR_ROW

METRICS = (
    ("train/loss", "loss"),
    ("train/test_loss", "loss on held-out transitions"),
    ("train/gradient_norm", "gradient norm"),
    ("episode/return", "return with exploration"),
    ("episode/terminated", "share of episodes that finished"),
    ("schedule/epsilon", "epsilon"),
    ("schedule/learning_rate", "learning rate"),
    ("speed/env_steps_per_s", "environment steps per second"),
    ("speed/updates_per_s", "updates per second"),
    ("speed/learner_share", "share of time spent learning"),
    ("diagnostics/action_gap", "action gap"),
    ("diagnostics/policy_churn", "policy churn"),
    ("diagnostics/dormant_share", "dormant neurons"),
    ("diagnostics/effective_rank", "effective rank"),
    ("diagnostics/crossing_rate", "crossing quantiles"),
    ("memory/rss_mb", "memory, MB"),
)
LAST_EVALUATIONS = 5


def write_report(run: str | Path) -> Path:
    """Write the page from the files of a run folder; the run may still be going on."""
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"run={folder}: must be an existing run folder")
    evaluations, metrics = read_evaluations(folder), read_metrics(folder)
    facts, config = _facts(folder), _text(folder / "config.yaml")
    sections = [*_results(folder, evaluations), _curves(metrics), _about(facts, config)]
    page = _PAGE.format(
        title=html.escape(f"{_name(folder)} - tm_torchrl"),
        heading=_heading(folder, evaluations, metrics, facts),
        body="\n".join(sections),
    )
    path = folder / "report.html"
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _name(folder: Path) -> str:
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}" if whole.parent.name != "runs" else whole.name


def _heading(folder: Path, evaluations: Sequence[Row], metrics: Sequence[Row], facts: Row) -> str:
    last = (evaluations or metrics or [{"frames": 0, "seconds": 0.0}])[-1]
    tiles = []
    laps = best_laps(folder)
    for track, path in laps.items():
        time = load_time(path)
        medals = medals_of(track)
        medal = medals.won_by(time) if medals is not None else None
        tiles.append((f"best lap on {track}", f"{time:.2f} s", _medal_badge(medal)))
    for row in _last_of_each(evaluations):
        if "track" in row:
            tiles.append(
                (f"finished laps on {row['track']}", f"{row['finish_rate']:.0%}", f"of the last {row['num_laps']}")
            )
        else:
            tiles.append(
                (f"mean return on {row['task']}", f"{row['return_mean']:.1f}", f"{row['num_episodes']} episodes")
            )
    tiles.append(("frames", f"{last['frames']:,}", ""))
    minutes = last["seconds"] / 60
    tiles.append(
        ("training time", f"{minutes:.1f} min", f"started {str(facts.get('started', '?'))[:16].replace('T', ' ')}")
    )
    boxes = "".join(
        f'<div class="tile"><div class="label">{html.escape(label)}</div><div class="value">{html.escape(value)}</div>'
        f'<div class="note">{note if note.startswith("<") else html.escape(note)}</div></div>'
        for label, value, note in tiles
    )
    return f'<h1>{html.escape(_name(folder))}</h1><div class="tiles">{boxes}</div>'


def _medal_badge(medal: str | None) -> str:
    if medal is None:
        return "no medal yet"
    return f'<span class="medal" style="background:{MEDAL_COLOURS[medal]}">{medal}</span>'


def _last_of_each(evaluations: Sequence[Row]) -> list[Row]:
    found: dict[str, Row] = {}
    for row in evaluations:
        found[str(row.get("track", row.get("task", "")))] = row
    return list(found.values())


def _results(folder: Path, evaluations: Sequence[Row]) -> list[str]:
    if not evaluations:
        return [_section("Results", "<p>This run has not been evaluated yet.</p>")]
    if "track" not in evaluations[0]:
        return [
            _section("Results", _picture(figures.return_curve(evaluations), "returns of greedy episodes over frames"))
        ]
    sections = []
    laps = best_laps(folder)
    for track in dict.fromkeys(str(row["track"]) for row in evaluations):
        rows = [row for row in evaluations if row["track"] == track]
        parts = [_picture(figures.lap_curves(rows, track=track), f"lap times on {track} over frames")]
        times = [time for row in rows[-LAST_EVALUATIONS:] for time in row.get("lap_times_s", []) if time is not None]
        pair = [_medal_table(track, laps.get(track))]
        if times:
            label = f"race times of the last {min(LAST_EVALUATIONS, len(rows))} evaluations"
            pair.append(_picture(figures.lap_histogram(times, track=track), label))
        parts.append(f'<div class="pair">{"".join(pair)}</div>')
        parts.append(_best_lap(track, laps.get(track)))
        sections.append(_section(track, "".join(parts)))
    return sections


def _medal_table(track: str, lap: Path | None) -> str:
    medals = medal_times(track)
    if not medals:
        return "<p>This track has no medals.</p>"
    best = load_time(lap) if lap is not None else None
    lines = []
    for name, at, _ in reversed(medals):
        gap = "" if best is None else f"{best - at:+.2f} s"
        won = "won" if best is not None and best <= at else ""
        lines.append(f"<tr><td>{_medal_badge(name)}</td><td>{at:.2f} s</td><td>{gap}</td><td>{won}</td></tr>")
    return f"<table><tr><th>medal</th><th>time</th><th>best lap minus medal</th><th></th></tr>{''.join(lines)}</table>"


def _best_lap(track: str, path: Path | None) -> str:
    if path is None:
        return "<p>No lap has finished yet.</p>"
    lap = load_lap(path)
    parts = []
    geometry = _track(track)
    if geometry is not None:
        rows = lap["rows"]
        speed = (rows[:, CAR_ROW["velocity"]] ** 2).sum(1) ** 0.5
        figure = driven_line(geometry, rows[:, CAR_ROW["position"]], speed, title=f"{track}: {load_time(path):.2f} s")
        parts.append(_picture(figure, f"the best lap on {track}, coloured by speed", dpi=80))
    parts.append(_picture(figures.lap_traces(lap), f"speed, keys and values along the best lap on {track}"))
    return f"<h3>Best lap: {load_time(path):.2f} s</h3>" + "".join(parts)


def _track(name: str) -> Track | None:
    return load_track(name) if name in BUILTIN_TRACKS else None


def _curves(metrics: Sequence[Row]) -> str:
    if not metrics:
        return _section("Training", "<p>No metrics have been written yet.</p>")
    return _section("Training", _picture(figures.metric_curves(metrics, METRICS), "metrics over frames"))


def _about(facts: Row, config: str) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in facts.get("packages", {}).items() if number)
    lines = [
        f"commit {facts.get('git') or 'unknown'}, Python {facts.get('python', '?')}, {facts.get('platform', '?')}",
        packages,
        f"seed {facts.get('seed', '?')}, {facts.get('precision', '?')}, {facts.get('device', '?')}",
        " ".join(map(str, facts.get("command", []))),
    ]
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines if line)
    settings = f"<details><summary>Settings</summary><pre>{html.escape(config)}</pre></details>"
    return _section("About", f"<ul>{listed}</ul>{settings}")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _picture(figure: Figure, label: str, *, dpi: int = 110) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    text = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(label)}" src="data:image/png;base64,{text}">'


def _facts(folder: Path) -> Row:
    try:
        found = json.loads(_text(folder / "run.json"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2733; --dim: #5c6977; --page: #f4f6f8; --card: #ffffff; --edge: #dbe1e7; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8edf2; --dim: #9aa7b4; --page: #12181f; --card: #1b232c; --edge: #2c3742; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  max-width: 980px; padding: 20px 16px 60px; }}
h1 {{ font-size: 24px; margin: 6px 0 14px; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 0 0 10px; }} h3 {{ font-size: 16px; margin: 18px 0 8px; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: 10px; margin-bottom: 18px; }}
.tile {{ flex: 1 1 130px; background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
  padding: 10px 14px; }}
.label, .note {{ color: var(--dim); font-size: 13px; }} .value {{ font-size: 22px; font-weight: 600; }}
section {{ background: var(--card); border: 1px solid var(--edge); border-radius: 12px; padding: 16px 18px;
  margin-bottom: 18px; }}
img {{ max-width: 100%; height: auto; display: block; margin: 8px auto; border-radius: 6px; background: #fff; }}
.pair {{ display: flex; flex-wrap: wrap; gap: 18px; align-items: center; justify-content: space-around; }}
table {{ border-collapse: collapse; }} th {{ color: var(--dim); font-weight: 500; text-align: left; }}
th, td {{ padding: 5px 14px 5px 0; font-variant-numeric: tabular-nums; }}
.medal {{ color: #fff; border-radius: 9px; padding: 2px 10px; font-size: 13px; }}
pre {{ overflow-x: auto; font-size: 12.5px; }} summary {{ cursor: pointer; }}
ul {{ color: var(--dim); font-size: 13.5px; padding-left: 20px; overflow-wrap: anywhere; }}
</style></head><body>
{heading}
{body}
</body></html>
"""
