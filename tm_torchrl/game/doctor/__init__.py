"""Checks whether this machine and the game are ready for training, and explains known failures."""
