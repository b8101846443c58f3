"""Files that are complete or absent: checkpoints, replay logs, states of random generators."""
