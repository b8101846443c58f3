"""Puts the link plugin into TMInterface's folder of plugins."""

from __future__ import annotations

import os
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent / "tm_torchrl_link.as"
COMMUNITY_PLUGIN = "Python_Link.as"
_PLACE = Path("TMInterface") / "Plugins"


def home_folder() -> Path:
    """The user's; the present folder where the system knows none, as for some services and containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path.cwd()


def plugin_folders(*, home: Path | None = None) -> list[Path]:
    """Where TMInterface may look for plugins on this machine: folders that exist, the likeliest first.

    Documents may have been moved to OneDrive; under wine they lie in the prefix (``WINEPREFIX``, or ``~/.wine``).

    Args:
        home: of the user; the present one's by default.
    """
    home = home or home_folder()
    documents = [home / "Documents", home / "OneDrive" / "Documents"]
    prefixes = [Path(prefix) for prefix in [os.environ.get("WINEPREFIX", "")] if prefix] + [home / ".wine"]
    for prefix in prefixes:
        users = prefix / "drive_c" / "users"
        if users.is_dir():
            documents += [user / name for user in sorted(users.iterdir()) for name in ("Documents", "My Documents")]
    return list(dict.fromkeys(folder / _PLACE for folder in documents if (folder / _PLACE).is_dir()))


def install_plugin(folder: str | Path, *, replace_community: bool = False) -> Path:
    """Copy the plugin into a folder, whole or not at all; returns where it lies now.

    Args:
        folder: ``Documents/TMInterface/Plugins`` of the game's user.
        replace_community: set aside the community's plugin, which listens at the same port, by another ending.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder {str(folder)!r} does not exist: start the game with TMInterface 2.1 once, which makes it, or give "
            "the right one"
        )
    other = folder / COMMUNITY_PLUGIN
    if other.exists() and not replace_community:
        raise FileExistsError(
            f"{other} is there, and both would listen at the same port: either works with tm_torchrl, so keep it, or "
            "replace it with --replace"
        )
    target = folder / PLUGIN.name
    unfinished = target.with_suffix(".unfinished")
    try:
        unfinished.write_bytes(PLUGIN.read_bytes())
        if other.exists():
            other.replace(other.with_suffix(".as.off"))  # only now: a full disk leaves the one that works
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target
