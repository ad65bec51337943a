"""Tunewright."""
