"""Carry rows from the training thread to the sinks."""

from __future__ import annotations
