"""An emulated game: ``python -m tm_torchrl.game.emulator --protocol 2 --port 8478 --track hillside``.

Its first line of output says where it listens. It runs until Ctrl-C or a signal ends it; with ``--until-stdin-ends`` it
ends with the process that started it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading

from tm_torchrl.game.emulator.protocol1 import Protocol1Server
from tm_torchrl.game.emulator.protocol2 import Protocol2Server
from tm_torchrl.game.errors import GameError
from tm_torchrl.tracks import DEFAULT_TRACK, load_track


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tm_torchrl.game.emulator", description="The simulator behind the game's protocol."
    )
    parser.add_argument("--protocol", type=int, choices=(1, 2), default=2, help="1 for TMInterface 1.x, 2 for 2.x (2)")
    parser.add_argument("--track", default=DEFAULT_TRACK, help="a built-in track or a .npz file")
    parser.add_argument("--port", type=int, default=8478, help="of protocol 2; 0 lets the system choose (8478)")
    parser.add_argument("--channel", help="of protocol 1, such as TMInterface0; by default a new name")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the protocol has no password: keep to loopback (127.0.0.1)"
    )
    parser.add_argument("--countdown-ms", type=int, default=2600, help="time before the start signal (2600)")
    parser.add_argument("--in-menus", action="store_true", help="begin in the menus, without a map, as the game does")
    parser.add_argument(
        "--real-time", action="store_true", help="keep to the game's speed instead of as fast as possible"
    )
    parser.add_argument("--until-stdin-ends", action="store_true", help="end with the process that started this one")
    parser.add_argument("--verbose", action="store_true", help="log commands, warnings and clients")
    return parser.parse_args(arguments)


def make_server(options: argparse.Namespace) -> Protocol1Server | Protocol2Server:
    """The server for the chosen protocol."""
    track = load_track(options.track)
    shared = {
        "is_in_menus": options.in_menus,
        "is_real_time": options.real_time,
        "countdown_ms": options.countdown_ms,
    }
    if options.protocol == 1:
        return Protocol1Server(track, channel=options.channel, **shared)
    return Protocol2Server(track, host=options.host, port=options.port, **shared)


def main(arguments: list[str] | None = None) -> None:
    """Serve until the process is ended."""
    options = parse(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.ERROR, stream=sys.stderr)
    try:
        server = make_server(options)
    except (GameError, ValueError, OSError) as error:  # no such track, or a port that is taken or invalid
        where = options.channel if options.protocol == 1 else f"{options.host}:{options.port}"
        sys.stderr.write(f"error: cannot emulate track {options.track!r} at {where}: {error}\n")
        raise SystemExit(1) from None
    for name in ("SIGTERM", "SIGHUP"):  # so that the channel's memory is removed; Windows has no SIGHUP
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:  # set by nohup
            signal.signal(getattr(signal, name), lambda number, frame: server.stop())
    sys.stdout.write(f"listening on {server.address}\n")
    sys.stdout.flush()
    if options.until_stdin_ends:

        def follow() -> None:
            while sys.stdin.buffer.read(1):
                pass
            server.stop()

        threading.Thread(target=follow, daemon=True).start()
    try:
        server.serve()
    except KeyboardInterrupt:
        server.stop()


if __name__ == "__main__":
    main()
