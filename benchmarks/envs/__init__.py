"""Gymnasium environments of other projects, adapted for the suite."""
