"""Other libraries: their learners in cells of the suite, and their updates beside ours."""
