"""The embedded simulator behind the game's protocols, for tests and for training without the game."""
