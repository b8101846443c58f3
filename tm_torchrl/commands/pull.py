"""Fetch an agent that somebody shared; its folder works wherever a command takes a RUN.

tm-torchrl pull hf:USER/NAME                  # into agents/NAME; hf:USER/NAME@REVISION for another than the newest
tm-torchrl pull FOLDER agents/mine
"""

from __future__ import annotations

import sys
from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.invocation import command, quoted


def main() -> None:
    """Fetch, check and say what can be done with it."""
    parser = parser_for("pull", __doc__)
    parser.add_argument("source", help="hf:USER/NAME, or a folder")
    parser.add_argument("folder", type=Path, nargs="?", help="where it goes (agents/NAME)")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package whose classes the agent may name"
    )
    args = parser.parse_args()
    from tm_torchrl.agents.sharing import HUB, pull  # takes seconds, which a misspelt command need not
    from tm_torchrl.data.saving.checkpoint import CheckpointError

    name = Path(args.source.removeprefix(HUB).partition("@")[0]).name
    folder = args.folder or Path("agents") / name
    try:
        agent = pull(args.source, folder, trust=args.trust)
    except (ValueError, OSError, CheckpointError, ModuleNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.write(f"{folder}: {agent.description}\n  evaluate:  {command('evaluate')} {quoted(folder)}\n")
