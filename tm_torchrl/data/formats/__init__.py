"""Recorded laps in the formats of others: Minari, Parquet, and captures of the game by rulka's scripts."""
