"""Hooks of the training loop: log, evaluate, save, display, reset."""
