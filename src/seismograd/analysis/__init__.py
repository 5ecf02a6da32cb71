"""What several rules read of the record."""

from __future__ import annotations
