"""Check whether everything is ready for training, and say how to fix what is not.

tm-torchrl doctor                             # this machine: enough for the built-in simulator
tm-torchrl doctor --game                      # and the installed game
tm-torchrl doctor --port 8478                 # and the game running there; its race is restarted
tm-torchrl doctor --channel TMInterface0      # the same with TMInterface 1.x
tm-torchrl doctor --failures                  # known failures, their causes and fixes
The exit code is 1 if a check failed. With --json the results are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.game.client import Client
from tm_torchrl.game.doctor.check import CheckResult, exit_code, run_checks, verdict
from tm_torchrl.game.doctor.connection import GameChecks, check_port, check_port_is_free
from tm_torchrl.game.doctor.failures import FAILURES
from tm_torchrl.game.doctor.installation import installation_checks
from tm_torchrl.game.doctor.machine import machine_checks


def examine(args: argparse.Namespace) -> list[CheckResult]:
    """Run the requested checks."""
    is_for_game = args.game or args.port is not None or args.channel is not None
    results = run_checks(machine_checks(is_for_game=is_for_game))
    if args.game:
        documents = None if args.documents is None else Path(args.documents)
        results += run_checks(installation_checks(documents=documents, loader=args.loader, map_path=args.map))
    if args.port is None and args.channel is None:
        if args.game:
            results += run_checks([("port", lambda: check_port_is_free(8478))])
        return results
    if args.port is not None:
        results += run_checks([("port", lambda: check_port(args.port))])
    try:
        client = make_client(args)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    checks = GameChecks(client, timeout_s=args.timeout)
    try:
        results += run_checks(checks.checks())
    finally:
        client.close()
    return results


def make_client(args: argparse.Namespace) -> Client:
    """A client of the running game."""
    from tm_torchrl.game import TMInterface1Client, TMInterface2Client

    if args.channel is not None:
        return TMInterface1Client(channel=args.channel, map_path=args.map)
    return TMInterface2Client(port=args.port, map_path=args.map)


def main() -> None:
    """Run the checks and print the results."""
    parser = parser_for("doctor", __doc__)
    parser.add_argument("--game", action="store_true", help="check the installed game, too")
    parser.add_argument("--port", type=int, help="port of a running game with TMInterface 2.x")
    parser.add_argument("--channel", help="channel of a running game with TMInterface 1.x: TMInterface0 to 15")
    parser.add_argument("--documents", help="folder that contains TrackMania and TMInterface (Documents)")
    parser.add_argument("--loader", help="path of TMLoader.exe")
    parser.add_argument("--map", help="map to load, as a path in Challenges")
    parser.add_argument("--timeout", type=float, default=10.0, help="timeout of the connection in seconds (10)")
    parser.add_argument("--failures", action="store_true", help="print the known failures, and exit")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    args = parser.parse_args()
    if args.failures:
        say("\n".join(f"{name}: {failure}" for name, failure in FAILURES.items()))
        return
    if not args.timeout > 0:
        raise SystemExit(f"--timeout {args.timeout}: must be positive")
    if args.port is not None and args.channel is not None:
        raise SystemExit(f"--port {args.port} --channel {args.channel}: give only one of them")
    if args.port is not None and not 1 <= args.port <= 65535:
        raise SystemExit(f"--port {args.port}: must be 1 to 65535")
    results = examine(args)
    if args.json:
        say(json.dumps([each.as_dict() for each in results], indent=1))
    else:
        say("\n".join([*map(str, results), verdict(results)]))
    sys.exit(exit_code(results))


def say(text: str) -> None:
    """Print a text; a reader that closes the pipe, such as head, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
