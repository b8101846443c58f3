"""From collected steps to transitions: n-step sums, the mini-race horizon, held-out trajectories."""
