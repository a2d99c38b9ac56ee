"""Processes that a command starts, watches, starts again and stops, and what they say to each other."""
