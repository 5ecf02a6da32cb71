"""What the script made and what it calls it: models, optimizers, parameters."""

from __future__ import annotations
