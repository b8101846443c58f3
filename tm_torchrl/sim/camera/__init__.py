"""The simulator's camera, and views of the track for videos."""
