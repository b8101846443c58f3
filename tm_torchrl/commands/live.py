"""Watch trainings in a browser while they go on, and race their drivers.

tm-torchrl live                       # the runs below runs/, the newest one first
tm-torchrl live RUN other/runs        # some run folders, or folders with runs
The page is for this machine only. On a server, forward its port (ssh -L 8000:127.0.0.1:8000) and say --port 8000.
"""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from pathlib import Path

import torch

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.live.api import DRIVES, Api
from tm_torchrl.live.runs import Runs
from tm_torchrl.live.server import PageServer


def _has_display() -> bool:
    """Whether a browser would open in a window, not in this terminal."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = parser_for("live", __doc__)
    parser.add_argument("places", nargs="*", type=Path, metavar="RUN", help="run folders, or folders with runs (runs/)")
    parser.add_argument("--port", type=int, default=0, help="of the page's address (a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    args = parser.parse_args()
    places = [Path("runs") if str(place) == "latest" else place for place in args.places] or [Path("runs")]
    missing = [str(place) for place in places if not place.is_dir()]
    if missing and args.places:
        raise SystemExit(f"error: {missing[0]}: must be an existing run folder, or a folder with runs")
    torch.set_num_threads(1)
    try:
        server = PageServer(Api(Runs(places), drives=DRIVES).routes(), port=args.port)
    except (OSError, OverflowError) as error:
        raise SystemExit(f"error: --port {args.port}: {error}") from None
    sys.stdout.write(f"{server.address}\nCtrl-C ends it; a training goes on without it.\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="tm_torchrl_") as folder:  # which others cannot read
        if not args.no_browser and _has_display():
            door = Path(folder) / "live.html"  # so that no list of processes shows the token
            door.write_text(f'<meta http-equiv="refresh" content="0; url={server.address}">', encoding="utf-8")
            webbrowser.open(door.as_uri())
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            server.server_close()
