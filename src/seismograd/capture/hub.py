"""The hub of this process: torch can be patched only once per process, so there is one object."""

from __future__ import annotations

from seismograd.capture.events import EventHub
from seismograd.capture.hooks.patches import PATCHES

HUB = EventHub(PATCHES)
