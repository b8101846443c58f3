"""The embedded simulator behind the game's own protocols, for tests and for training without the game."""
