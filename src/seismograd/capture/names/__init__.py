"""The objects that the script made and their names: models, optimizers, parameters."""

from __future__ import annotations
