"""What stands between a person and a running training: checks, and what each failure means."""
