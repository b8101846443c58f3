"""What goes wrong between people, the game and this project: the sign, its cause and its cure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Failure:
    """One of them.

    Args:
        sign: what people see.
        cause: why.
        cure: one way to mend it.
    """

    sign: str
    cause: str
    cure: str

    def __str__(self) -> str:
        return f"{self.sign}\n  because {self.cause}\n  -> {self.cure}"


FAILURES: Mapping[str, Failure] = MappingProxyType(
    {
        "wrong version": Failure(
            "it waits for a game that runs: 1.x waits at its channel, 2.x says that nobody answers",
            "TMInterface 1.x speaks through shared memory and 2.x through TCP; each client knows one of them",
            "use game=tmi1 with TMInterface 1.4.3 and game=tmi2 with TMInterface 2.1",
        ),
        "no plugin": Failure(
            "the connection is refused for ever, and the game's console says 'Unknown variable: custom_port'",
            "TMInterface 2.x runs without the link plugin, which listens for us",
            "python scripts/install_plugin.py puts it into Documents/TMInterface/Plugins; then start the game anew",
        ),
        "port taken": Failure(
            "a game starts, but another answers; or two trainings disturb each other",
            "another game instance, or another program, listens at its port, or two clients share one game",
            "end the other one, or choose other ports with game.first_address; one client for each game",
        ),
        "game gone": Failure(
            "the connection closes in the middle of a race, or nobody answers",
            "it was ended, has crashed, waits for a login, or is minimised: then it draws nothing and accepts none",
            "log in, open the console once, do not minimise it; with a launcher (game=tmi2_wine) it is started anew",
        ),
        "twitching car": Failure(
            "the car twitches, but does not drive",
            "the game's window has not had the focus since the map was loaded",
            "click into its window once after every start and every change of the map",
        ),
        "frozen game": Failure(
            "the game stands still after a training was killed",
            "its speed was left at 0, which a picture needs, and nobody set it back",
            "type set speed 1 into its console, or connect again: every client sets the speed when it connects",
        ),
        "slow when unfocused": Failure(
            "the game is fast only while its window is in front",
            "the game draws few frames in the background",
            "type set unfocused_fps_limit false into its console; our clients do so when they connect",
        ),
        "map not found": Failure(
            "no run step comes after a map was asked for",
            "the map's path is wrong (OneDrive moves Documents, spaces want quotes), or a dialog of a record is open",
            "put it into Documents/TrackMania/Tracks/Challenges, give its path from there as game.client.map_path, "
            "close the dialog, and type set autorewind false",
        ),
        "in the menus": Failure(
            "the state has a few bytes instead of 8356 and more",
            "the game stands in its menus or is still loading a map",
            "open a map in the game, or give game.client.map_path; the client connects again by itself",
        ),
        "client too slow": Failure(
            "the game drops us after a pause of training",
            "TMInterface waits 2 s for an answer unless it was told to wait longer",
            "raise game.client.hold_s (600 s are usual) and do not stop the trainer with a debugger",
        ),
        "out of step": Failure(
            "numbers come that cannot be: messages, sizes or checkpoints that do not exist",
            "a message was read half, or a picture has another size than was asked for: the stream is lost",
            "nothing: the connection is dropped and made anew, never guessed at; if it repeats, install our plugin",
        ),
        "memory grows": Failure(
            "after many hours the game is slow or ends",
            "the game keeps memory of every race",
            "let a launcher start it anew: game.launcher.reboot_s is 12 hours",
        ),
        "replay screen": Failure(
            "the race ends in the replay screen, and no step comes any more",
            "the finish was not taken back before the game went on",
            "connect again; our clients take every finish back before they answer, foreign scripts in the game may not",
        ),
        "finish missed": Failure(
            "the car crosses the line and nothing is told",
            "the game's list of checkpoint times was empty when it was read",
            "nothing: the finish is read from the checkpoint message too; if it repeats, check that all checkpoints of "
            "the map are in the track file",
        ),
        "starts differ": Failure(
            "equal inputs give other races after a restart",
            "giving up restarts through the countdown, which is not the same to the last bit; rewinding is",
            "use our clients, which rewind to the caught start; do not bind restarts to other tools",
        ),
        "interrupted": Failure(
            "Ctrl-C leaves the game standing still",
            "the connection was cut in the middle of a message",
            "press Ctrl-C once and wait for the run to save; connecting again frees the game",
        ),
        "copied connection": Failure(
            "answers are mixed up between worker processes, or Windows starts the script again and again",
            "a connection was made before the processes were, or a script has no if __name__ == '__main__'",
            "connect inside the worker (our worlds do so at their first use), and guard the script's start",
        ),
        "stale channel": Failure(
            "TMInterface 1.x: registering waits although a channel exists, or a step never ends",
            "the game behind the channel has ended, or has dropped us for being slow without a word",
            "start the game anew; our client notices after its deadline and connects again",
        ),
    }
)


def cure_of(name: str) -> str:
    """One way to mend it.

    >>> cure_of("memory grows")
    'let a launcher start it anew: game.launcher.reboot_s is 12 hours'
    """
    return FAILURES[name].cure
