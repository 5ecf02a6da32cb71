"""SG102 exploding-gradient."""

from __future__ import annotations
