"""The client of TMInterface 1.x, over shared memory."""
