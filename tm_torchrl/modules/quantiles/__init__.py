"""Quantile networks: fractions, their embedding, heads."""
