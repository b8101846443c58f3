"""Share a trained agent: weights, settings, best laps and a page about them, with nothing that is executed.

tm-torchrl push RUN my-agent                  # a folder
tm-torchrl push RUN hf:USER/NAME              # the Hugging Face hub; needs pip install "tm_torchrl[hub]" and a login
"""

from __future__ import annotations

import sys

from tm_torchrl.commands.parser import parser_for, run_folder


def main() -> None:
    """Share and say where."""
    parser = parser_for("push", __doc__)
    parser.add_argument("run", type=run_folder, help="a run folder, or latest")
    parser.add_argument("target", help="a new folder, or hf:USER/NAME")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package whose classes the run may name"
    )
    args = parser.parse_args()
    from tm_torchrl.agents.sharing import push  # takes seconds, which a misspelt command need not
    from tm_torchrl.data.saving.checkpoint import CheckpointError

    try:
        place = push(args.run, args.target, trust=args.trust)
    except (ValueError, OSError, CheckpointError, ModuleNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    sys.stdout.write(f"shared {args.run} as {place}\n")
