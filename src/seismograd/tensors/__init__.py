"""What torch's tensors need before they can be read: the lowest room with torch."""

from __future__ import annotations
