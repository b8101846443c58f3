"""Parsers of command lines, whose help shows commands as the user types them."""

from __future__ import annotations

import argparse
import re

from tm_torchrl.invocation import command


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
