"""SG104 dead-units."""

from __future__ import annotations
