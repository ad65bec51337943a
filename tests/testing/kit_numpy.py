"""A backend whose module imports a heavy library."""

import kit_sound
import numpy  # noqa: F401


class Heavy(kit_sound.Bound):
    pass
