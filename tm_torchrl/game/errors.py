"""Errors between a client and the game; each class calls for another remedy."""


class GameError(RuntimeError):
    """Something went wrong with the game."""


class GameTimeout(GameError):
    """The game did not answer in time: it hangs, is minimised, shows a menu or is slow. Restart it."""


class GameGone(GameError):
    """The connection is closed: the game crashed, was ended, or dropped this client. Connect again."""


class NobodyThereError(GameGone):
    """Nothing answers at the game's address: it is not running, runs elsewhere, or runs without its plugin."""


class ProtocolError(GameError):
    """The bytes received are invalid: another version, another program, or a stream out of step. Connect again."""


class CallRefused(GameError):
    """The call does not fit the client's state; a mistake of the caller, and nothing was sent."""
