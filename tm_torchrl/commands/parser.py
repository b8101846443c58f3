"""Parsers of command lines, whose help shows commands as the user types them."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tm_torchrl.invocation import command
from tm_torchrl.settings.stored import find_run


def parser_for(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose description keeps its lines.

    Args:
        name: Name of the command.
        description: Text in which commands are written ``tm-torchrl NAME``.
    """
    text = re.sub(r"tm-torchrl ([\w-]+)", lambda match: command(match.group(1)), description or "")
    return argparse.ArgumentParser(
        prog=command(name), description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of a command about a run, with the run and which of its weights.

    Args:
        name: Name of the command.
        description: Text in which commands are written ``tm-torchrl NAME``.
    """
    parser = parser_for(name, description)
    add_run(parser)
    parser.add_argument("--which", choices=("best", "latest"), default="best", help="weights")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package whose classes the run may name"
    )
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the run folder; without it, the newest run is meant."""
    parser.add_argument(
        "run",
        type=run_folder,
        nargs="?",
        default="latest",
        help="a run folder, or a folder of runs: its newest; by default the newest of runs/",
    )


def add_track(parser: argparse.ArgumentParser) -> None:
    """Add another track than the run's, as ``track=NAME`` or ``--track NAME``."""
    text = "drive another track than the run's: a built-in name or a .npz file"
    parser.add_argument(
        "track", nargs="?", type=_track, default=argparse.SUPPRESS, metavar="track=NAME", help=argparse.SUPPRESS
    )
    parser.add_argument("--track", metavar="NAME", help=text)


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add where runs go on, and what each needs there."""
    parser.add_argument(
        "--on",
        choices=("here", "ray"),
        default="here",
        help="ray: in this machine's cluster, or RAY_ADDRESS (here)",
    )
    parser.add_argument(
        "--resources",
        type=_resource,
        nargs="+",
        default=[],
        metavar="NAME=AMOUNT",
        help="what each run needs of a node, on Ray (CPU=1, and no GPU)",
    )


def run_folder(text: str) -> Path:
    """The run that a word of the command line means; says which one if the word does not."""
    if text.startswith("track="):
        raise argparse.ArgumentTypeError(f"{text}: the run comes first, such as: latest {text}")
    run = find_run(text)
    if run != Path(text):
        sys.stderr.write(f"run: {run}\n")
    return run


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be NAME=AMOUNT, such as CPU=2") from None


def _track(text: str) -> str:
    if text == argparse.SUPPRESS:  # argparse converts defaults too
        return argparse.SUPPRESS
    key, _, value = text.partition("=")
    if key not in ("track", "env.track") or not value:
        hint = f"; did you mean track={value}?" if value else ""
        raise argparse.ArgumentTypeError(f"{text}: must be track=NAME{hint}")
    return value
