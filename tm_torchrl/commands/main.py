"""The console command ``tm-torchrl``."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys

from tm_torchrl.lazy import EXTRAS, extras_named
from tm_torchrl.settings.nearest import nearest_name

COMMANDS = {
    "train": "train an agent; every setting can be changed, train --help lists them",
    "evaluate": "drive greedy laps with a trained agent",
    "live": "watch trainings in a browser while they go on, and race their drivers",
    "watch": "write a video of a trained agent's lap",
    "report": "write a run's report.html again",
    "compare": "draw the learning curves of runs",
    "push": "share a trained agent: a folder, or the Hugging Face hub",
    "pull": "fetch an agent that somebody shared",
    "export": "write the greedy policy as a torch.export or ONNX program",
    "replay": "drive kept laps again, in the simulator or in the game",
    "drive": "drive a lap with a scripted driver, the author's inputs or the keyboard",
    "record": "record laps to learn from",
    "pairs": "pair recorded laps that begin equally, the better one first",
    "convert": "convert recorded laps to and from Minari, Parquet and captures of the game",
    "tracks": "draw a picture of tracks",
    "optimize": "search for a faster lap",
    "ablate": "run experiments against a baseline, into one table",
    "import-track": "import a track of the game",
    "import-linesight": "import a network of Linesight or rulka",
    "install-plugin": "install the plugin for TMInterface 2.x",
    "doctor": "check whether everything is ready, the game included",
}


def main() -> None:
    """Run the command that the first word names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        raise SystemExit(0 if words else 2)
    name = words[0]
    if name == "--version":
        sys.stdout.write(f"tm_torchrl {importlib.metadata.version('tm_torchrl')}\n")
        return
    if name not in COMMANDS:
        sys.stderr.write(f"error: tm-torchrl {name}: no such command{nearest_name(name, COMMANDS)}\n")
        raise SystemExit(2)
    del sys.argv[1]
    run(name)


def run(name: str) -> None:
    """Run a command with the words of ``sys.argv``.

    Args:
        name: One of ``COMMANDS``, or ``medals``.
    """
    try:
        with extras_named():
            importlib.import_module(f"tm_torchrl.commands.{name.replace('-', '_')}").main()
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if error.name is None:  # a library that names what it misses itself
            raise SystemExit(f"error: {error}") from None
        if missing == "tm_torchrl":
            raise
        if missing in EXTRAS and importlib.util.find_spec("torch") is not None:
            raise SystemExit(f"error: {error}") from None
        raise SystemExit(
            f"error: {missing} is not installed for {sys.executable}. In a checkout: make install, then "
            f".venv/bin/tm-torchrl {name}; elsewhere: pip install 'tm_torchrl[all]'"
        ) from None
    except MemoryError as error:
        raise SystemExit(f"error: not enough memory: {error}") from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error) and "out of memory" not in str(error):
            raise
        raise SystemExit(f"error: not enough memory: {str(error).splitlines()[0]}") from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None  # as shells say it
    except BrokenPipeError:  # the reader of the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    head = "usage: tm-torchrl COMMAND ...; tm-torchrl COMMAND --help says more"
    return "\n".join([head, "", *lines]) + "\n"
