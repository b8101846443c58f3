"""Checks of the installed game: its folders, the loader, TMInterface, the link plugin, and a map."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from tm_torchrl.game.doctor.check import Check, CheckResult, Level
from tm_torchrl.game.doctor.failures import fix_for
from tm_torchrl.game.plugin.install import PLUGIN, home_folder, plugin_folders

PLUGIN_WORD = "custom_port"  # every link plugin registers this variable
_FIRST_WITH_PLUGINS = (2, 0)
_VERSION = re.compile("ProductVersion".encode("utf-16-le") + rb"\0+((?:[0-9.]\0){3,30})")


def documents_folder(home: Path | None = None) -> Path:
    """The documents folder with the game's maps and TMInterface's plugins; it may be OneDrive's or a wine prefix's.

    Args:
        home: Home folder of the user; by default that of the present user.
    """
    start = home_folder() if home is None else home
    places = [start / "Documents", start / "OneDrive" / "Documents"]
    places += [Path(os.environ[name]) / "Documents" for name in ("OneDrive",) if home is None and name in os.environ]
    for place in [folder.parent.parent for folder in plugin_folders(home=home)] + places:
        if (place / "TrackMania").is_dir() or (place / "TmForever").is_dir() or (place / "TMInterface").is_dir():
            return place
    return places[0]


def check_game_folder(documents: Path) -> CheckResult:
    """Check that the game has its folder in ``documents``, which it creates when it first runs."""
    for name in ("TrackMania", "TmForever"):
        if (documents / name).is_dir():
            return CheckResult("game folder", Level.OK, str(documents / name))
    fix = "start the game once and log in; under wine give --documents, the Documents folder inside its prefix"
    return CheckResult("game folder", Level.WARN, f"no TrackMania in {documents}", fix)


def check_loader(loader: str | None) -> CheckResult:
    """Check that TMLoader is installed, which starts the game with TMInterface.

    Args:
        loader: Its path; ``None`` to search for it.
    """
    found = loader if loader is not None and Path(loader).is_file() else shutil.which(loader or "TMLoader")
    if found:
        return CheckResult("loader", Level.OK, str(found))
    text = "TMLoader was not found" if loader is None else f"{loader} is not a file"
    fix = "install TMLoader, or give its path: --loader PATH; it is not needed to start games by hand"
    return CheckResult("loader", Level.WARN, text, fix)


def version_of(path: Path) -> str | None:
    """The version in a Windows library's resources (a ``.dll`` file)."""
    match = _VERSION.search(path.read_bytes())
    return None if match is None else match.group(1).decode("utf-16-le")


def check_tminterface(folders: Sequence[Path]) -> CheckResult:
    """Check which TMInterface is installed.

    Args:
        folders: Folders to search, with everything inside.
    """
    for folder in folders:
        for path in sorted(folder.rglob("TMInterface*.dll")) if folder.is_dir() else ():
            found = version_of(path)
            if found is None:
                continue
            numbers = tuple(int(part) for part in found.split(".")[:2])
            if numbers >= _FIRST_WITH_PLUGINS:
                return CheckResult("tminterface", Level.OK, f"{found}: use game=tmi2 ({path})")
            return CheckResult("tminterface", Level.OK, f"{found}: use game=tmi1, which has no pictures ({path})")
    searched = ", ".join(map(str, folders)) or "no folder"
    fix = "install TMInterface 2.1 into TMLoader's profile, or give the folder of the .dll: --loader PATH"
    return CheckResult("tminterface", Level.WARN, f"no TMInterface.dll was found (searched {searched})", fix)


def check_plugin(documents: Path, *, ours: Path = PLUGIN.parent) -> CheckResult:
    """Check that one link plugin is installed, and if it is this project's, that it has the current version."""
    folder = documents / "TMInterface" / "Plugins"
    present = [
        path for path in sorted(folder.rglob("*.as")) if PLUGIN_WORD in path.read_text("utf-8", errors="replace")
    ]
    if not present:
        return CheckResult("plugin", Level.FAIL, f"no link plugin in {folder}", fix_for("no plugin"))
    if len(present) > 1:
        names = ", ".join(path.name for path in present)
        return CheckResult(
            "plugin", Level.WARN, f"several use the same port: {names}", "keep one, and move the others away"
        )
    current = {path.name: path.read_bytes().split() for path in ours.glob("*.as")} if ours.is_dir() else {}
    name = present[0].name
    if name not in current:
        return CheckResult("plugin", Level.OK, f"{name}, not this project's own, but it works")
    if current[name] != present[0].read_bytes().split():
        return CheckResult("plugin", Level.WARN, f"{name} has another version", "python scripts/install_plugin.py")
    return CheckResult("plugin", Level.OK, f"{name}, current")


def check_map(documents: Path, map_path: str | None) -> CheckResult:
    """Check that a map exists.

    Args:
        documents: The documents folder.
        map_path: Its path in the Challenges folder, as the game's ``map`` command takes it.
    """
    if map_path is None:
        return CheckResult("map", Level.OK, "none is set: the map that is open in the game will be used")
    parts = PureWindowsPath(map_path.strip('"')).parts
    for game in ("TrackMania", "TmForever"):
        folder = documents / game / "Tracks" / "Challenges"
        if folder.joinpath(*parts).is_file():
            return CheckResult("map", Level.OK, str(folder.joinpath(*parts)))
    return CheckResult("map", Level.FAIL, f"{map_path} is not in {documents}", fix_for("map not found"))


def installation_checks(
    *, documents: Path | None = None, loader: str | None = None, map_path: str | None = None
) -> Sequence[tuple[str, Check]]:
    """All checks of the installed game.

    Args:
        documents: The documents folder; ``None`` to search for it.
        loader: Path of TMLoader; ``None`` to search for it.
        map_path: Map to be loaded.
    """
    folder = documents_folder() if documents is None else documents
    near = (
        [Path(loader).parent] if loader is not None and Path(loader).is_file() else []
    )  # "TMLoader" alone would mean the present folder
    return (
        ("game folder", lambda: check_game_folder(folder)),
        ("loader", lambda: check_loader(loader)),
        ("tminterface", lambda: check_tminterface([*near, folder / "TMInterface"])),
        ("plugin", lambda: check_plugin(folder)),
        ("map", lambda: check_map(folder, map_path)),
    )
