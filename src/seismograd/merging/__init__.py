"""Bring the records of the processes of one training together to one."""

from __future__ import annotations
