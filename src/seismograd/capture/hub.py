"""The hub of this process: torch can be patched only once in it, so this object is one, too."""

from __future__ import annotations

from seismograd.capture.events import EventHub
from seismograd.capture.hooks.patches import PATCHES

HUB = EventHub(PATCHES)
