"""The release, where everything below the public names can read it."""

__version__ = "0.1.0"
