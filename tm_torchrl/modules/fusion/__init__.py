"""Fusion: images and floats in one body."""
