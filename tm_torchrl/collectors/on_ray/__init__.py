"""Collection by Ray actors, on one machine or many; nothing of Ray is imported before a collector is made."""
