"""Grids of runs: cells, results, scores, and what people see meanwhile."""
