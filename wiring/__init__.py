"""Puts the parts together: each process, from the settings."""
