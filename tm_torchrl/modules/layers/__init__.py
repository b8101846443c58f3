"""Layers and their parts: dense, noisy and spectrally normalised layers, activations, initial weights."""
