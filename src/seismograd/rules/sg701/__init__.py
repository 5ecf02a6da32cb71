"""SG701 replica-drift."""

from __future__ import annotations
