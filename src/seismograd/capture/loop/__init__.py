"""The training loop as recorded: windows of optimizers, iterations, and when they are handed on."""

from __future__ import annotations
