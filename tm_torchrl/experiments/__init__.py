"""Many runs: ablations against a baseline, their table, and robustness of trained agents."""
