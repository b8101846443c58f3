"""Tracks from pieces, from blocks and from a generator."""
