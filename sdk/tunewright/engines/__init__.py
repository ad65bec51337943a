"""Engines that need an environment of their own: where it lies, how it is made, and the process that runs in it."""

from tunewright.engines.environment import Environment, environment_of, lacking
from tunewright.engines.process import Answered, Server, running

__all__ = ["Answered", "Environment", "Server", "environment_of", "lacking", "running"]
