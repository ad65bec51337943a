"""Tiny models for every test of this folder."""

from tiny import tiny_folder  # noqa: F401
