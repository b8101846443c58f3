"""What simulator and game share: rows, tracker, sensors, actions and the World protocol."""
