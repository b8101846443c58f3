"""Track files: our own, centrelines, and the game's."""
