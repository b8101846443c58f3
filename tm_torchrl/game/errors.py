"""What can go wrong between us and the game; each kind asks for another cure."""


class GameError(RuntimeError):
    """Something went wrong with the game."""


class GameTimeout(GameError):
    """The game did not answer in time: it hangs, is minimised, stands in a menu or is slow. Start it anew."""


class GameGone(GameError):
    """The connection is closed: the game crashed, was ended, or dropped us. Connect again."""


class NobodyThereError(GameGone):
    """Nobody answers where the game should be: it does not run yet, or elsewhere, or without its plugin."""


class ProtocolError(GameError):
    """Bytes came that cannot be meant so: another version, another program, or a stream out of step. Connect again."""


class CallRefused(GameError):
    """A call in a place where the game could not answer it. A mistake of the caller; nothing was sent."""
