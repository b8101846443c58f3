"""Install the link plugin for TMInterface 2.1, so that env=game game=tmi2 can drive the game.

tm-torchrl install-plugin                      # searches Documents/TMInterface/Plugins, also under wine
tm-torchrl install-plugin --folder FOLDER
tm-torchrl install-plugin --replace            # disables the community's Python_Link.as by renaming it
"""

from __future__ import annotations

from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.game.plugin import install_plugin, plugin_folders


def main() -> None:
    """Find the folder, copy the plugin, and print what to do next."""
    parser = parser_for("install-plugin", __doc__)
    parser.add_argument("--folder", type=Path, help="TMInterface's folder of plugins; searched for by default")
    parser.add_argument("--replace", action="store_true", help="disable the community's plugin")
    args = parser.parse_args()
    folders = [args.folder] if args.folder else plugin_folders()
    if len(folders) != 1:
        found = "\n".join(f"  {folder}" for folder in folders) or "  none"
        raise SystemExit(
            f"Found these folders Documents/TMInterface/Plugins:\n{found}\n"
            "Choose one with --folder; TMInterface 2.1 creates it when the game starts."
        )
    try:
        target = install_plugin(folders[0], replace_community=args.replace)
    except OSError as error:
        raise SystemExit(str(error)) from None
    print(f"wrote {target}")
    print('Restart the game; its console then says "tm_torchrl: listening at 127.0.0.1:8478".')
