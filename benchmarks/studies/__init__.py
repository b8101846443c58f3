"""Single questions, each answered by one measurement."""

FORMER_WEIGHTS = "objective.network.initialization=orthogonal"  # the default when the studies that name it were made
