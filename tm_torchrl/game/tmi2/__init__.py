"""The client of TMInterface 2.x, over TCP."""
