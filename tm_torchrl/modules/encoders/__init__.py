"""Encoders: from floats and images to features."""
