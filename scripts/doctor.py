"""Look whether everything is there to train, and say one way to mend what is not.

python scripts/doctor.py                             # this machine: enough for the built-in simulator
python scripts/doctor.py --game                      # and the game on the disk
python scripts/doctor.py --port 8478                 # and the game that runs there; its race begins anew
python scripts/doctor.py --channel TMInterface0      # the same with TMInterface 1.x
python scripts/doctor.py --failures                  # everything that goes wrong, why, and what helps
Ends with 1 if anything failed; --json is for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tm_torchrl.game.client import Client
from tm_torchrl.game.doctor.connection import GameChecks, check_port, check_port_is_free
from tm_torchrl.game.doctor.failures import FAILURES
from tm_torchrl.game.doctor.finding import Finding, exit_code, run_checks
from tm_torchrl.game.doctor.installation import installation_checks
from tm_torchrl.game.doctor.machine import machine_checks


def examine(args: argparse.Namespace) -> list[Finding]:
    """All checks that were asked for."""
    is_for_game = args.game or args.port is not None or args.channel is not None
    found = run_checks(machine_checks(is_for_game=is_for_game))
    if args.game:
        documents = None if args.documents is None else Path(args.documents)
        found += run_checks(installation_checks(documents=documents, loader=args.loader, map_path=args.map))
    if args.port is None and args.channel is None:
        if args.game:
            found += run_checks([("port", lambda: check_port_is_free(8478))])
        return found
    if args.port is not None:
        found += run_checks([("port", lambda: check_port(args.port))])
    try:
        client = make_client(args)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    checks = GameChecks(client, timeout_s=args.timeout)
    try:
        found += run_checks(checks.checks())
    finally:
        client.close()
    return found


def make_client(args: argparse.Namespace) -> Client:
    """Of the game that runs."""
    from tm_torchrl.game import TMInterface1Client, TMInterface2Client

    if args.channel is not None:
        return TMInterface1Client(channel=args.channel, map_path=args.map)
    return TMInterface2Client(port=args.port, map_path=args.map)


def main() -> None:
    """Examine and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", action="store_true", help="look at the game on the disk too")
    parser.add_argument("--port", type=int, help="of a game that runs with TMInterface 2.x")
    parser.add_argument("--channel", help="of a game that runs with TMInterface 1.x: TMInterface0 to TMInterface15")
    parser.add_argument("--documents", help="folder that holds TrackMania and TMInterface (Documents)")
    parser.add_argument("--loader", help="path of TMLoader.exe")
    parser.add_argument("--map", help="to be loaded, from Challenges")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for a connection (10)")
    parser.add_argument("--failures", action="store_true", help="tell everything that goes wrong, and leave")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    args = parser.parse_args()
    if args.failures:
        say("\n".join(f"{name}: {failure}" for name, failure in FAILURES.items()))
        return
    if not args.timeout > 0:
        raise SystemExit(f"--timeout {args.timeout}: must be positive")
    if args.port is not None and args.channel is not None:
        raise SystemExit(f"--port {args.port} --channel {args.channel}: a game has one of them")
    if args.port is not None and not 1 <= args.port <= 65535:
        raise SystemExit(f"--port {args.port}: 1 to 65535 wanted")
    found = examine(args)
    if args.json:
        say(json.dumps([each.as_dict() for each in found], indent=1))
    else:
        say("\n".join(map(str, found)))
    sys.exit(exit_code(found))


def say(text: str) -> None:
    """Print it; whoever closes the pipe, such as head, has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
