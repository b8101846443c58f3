"""Speed measurements; each writes a file into ``benchmarks/results``."""
