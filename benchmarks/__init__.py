"""Measurements; each script explains itself with --help."""
