"""Replay buffers: storages, priorities, capacity."""
