"""Known failures between the trainer and the game: their symptoms, causes and fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Failure:
    """A known failure."""

    symptom: str
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.symptom}\n  because {self.cause}\n  -> {self.fix}"


FAILURES: Mapping[str, Failure] = MappingProxyType(
    {
        "wrong version": Failure(
            "the client waits although the game is running: 1.x waits for its channel, 2.x says that nobody answers",
            "TMInterface 1.x uses shared memory and 2.x uses TCP; each client supports one of them",
            "use game=tmi1 with TMInterface 1.4.3 and game=tmi2 with TMInterface 2.1",
        ),
        "no plugin": Failure(
            "every connection is refused, and the game's console says 'Unknown variable: custom_port'",
            "TMInterface 2.x runs without the link plugin, which listens for the client",
            "python scripts/install_plugin.py puts it into Documents/TMInterface/Plugins; then restart the game",
        ),
        "port taken": Failure(
            "a game starts but another one answers, or two trainings disturb each other",
            "another game instance or program listens at its port, or two clients share one game",
            "end the other one, or choose other ports with game.first_address; use one client per game",
        ),
        "game gone": Failure(
            "the connection closes in the middle of a race, or nobody answers",
            "the game was ended, has crashed, waits for a login, or is minimised and therefore accepts no connection",
            "log in, open the console once, do not minimise the game; a launcher (game=tmi2_wine) restarts it",
        ),
        "twitching car": Failure(
            "the car twitches but does not drive",
            "the game's window has not had the focus since the map was loaded",
            "click into its window once after every start and every change of the map",
        ),
        "frozen game": Failure(
            "the game stands still after a training was killed",
            "its speed is still 0, which taking a picture needs",
            "type set speed 1 into its console, or connect again: every client sets the speed when it connects",
        ),
        "slow when unfocused": Failure(
            "the game is fast only while its window is in front",
            "the game draws few frames in the background",
            "type set unfocused_fps_limit false into its console; this project's clients do so when they connect",
        ),
        "map not found": Failure(
            "no run step comes after a map was requested",
            "the map's path is wrong (OneDrive moves Documents, spaces need quotes), or a dialog is open",
            "put it into Documents/TrackMania/Tracks/Challenges, give its path from there as game.client.map_path, "
            "close the dialog, and type set autorewind false",
        ),
        "in the menus": Failure(
            "the state has a few bytes instead of at least 8356",
            "the game shows its menus or is still loading a map",
            "open a map in the game, or give game.client.map_path; the client reconnects by itself",
        ),
        "client too slow": Failure(
            "the game drops the client after a pause in training",
            "TMInterface waits 2 s for an answer unless the client asks it to wait longer",
            "raise game.client.hold_s (600 s by default), and do not stop the trainer with a debugger",
        ),
        "out of step": Failure(
            "impossible numbers arrive: messages, sizes or checkpoints that do not exist",
            "a message was read in part, or a picture has another size than requested: the stream is lost",
            "nothing: the client drops the connection and connects again; if it happens again, install our plugin",
        ),
        "memory grows": Failure(
            "after many hours the game is slow or crashes",
            "the game keeps memory of every race",
            "let a launcher restart it: game.launcher.reboot_s is 12 hours by default",
        ),
        "replay screen": Failure(
            "the race ends in the replay screen, and no further step comes",
            "the finish was not removed from the state before the game went on",
            "connect again; this project's clients remove every finish, other scripts in the game may not",
        ),
        "finish missed": Failure(
            "the car crosses the finish line but no finish is reported",
            "the game's list of checkpoint times was empty when it was read",
            "nothing: the client also reads the checkpoint message; if it happens again, check that the track file "
            "contains all checkpoints of the map",
        ),
        "starts differ": Failure(
            "equal inputs give different races after a restart",
            "giving up restarts through the countdown, which is not bit-identical; a rewind is",
            "use this project's clients, which rewind to a stored start; do not restart by other tools",
        ),
        "interrupted": Failure(
            "after Ctrl-C the game stands still",
            "the connection was cut in the middle of a message",
            "press Ctrl-C once and wait until the run is saved; connecting again frees the game",
        ),
        "copied connection": Failure(
            "answers are mixed up between worker processes, or Windows starts the script again and again",
            "a connection was made before the processes were, or a script lacks if __name__ == '__main__'",
            "connect inside the worker, as this project's worlds do, and add that line to the script",
        ),
        "stale channel": Failure(
            "TMInterface 1.x: registering waits although a channel exists, or a step never ends",
            "the game behind the channel has ended, or has dropped the client for being slow without telling it",
            "restart the game; the client notices at its deadline and connects again",
        ),
    }
)


def fix_for(name: str) -> str:
    """One way to fix a known failure.

    >>> fix_for("memory grows")
    'let a launcher restart it: game.launcher.reboot_s is 12 hours by default'
    """
    return FAILURES[name].fix
