"""What the command line prints, and how it reads its own options."""

from __future__ import annotations
