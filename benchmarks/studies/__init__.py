"""Single questions, each answered by one measurement."""
