"""Computations on the record that several rules share."""

from __future__ import annotations
