"""Demonstrations: laps of any driver in a folder of memory-mapped arrays, and batches to learn from them."""
