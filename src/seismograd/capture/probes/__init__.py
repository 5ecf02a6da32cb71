"""What is looked at now and then, as it costs more than the rest: updates, several losses."""

from __future__ import annotations
