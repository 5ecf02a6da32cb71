"""Gradients of several micro-batches in one step."""

from __future__ import annotations
