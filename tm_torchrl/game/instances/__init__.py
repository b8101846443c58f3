"""Game instances: launch, watch, reconnect, end."""
