"""Cores: memory between the features of a network and its head."""
