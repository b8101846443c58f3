"""A replay that is shared out over shards, each in a process or on a machine of its own."""
