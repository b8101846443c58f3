"""Many runs: ablations against a baseline, their table, and robustness tests."""
