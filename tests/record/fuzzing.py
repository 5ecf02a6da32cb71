"""How long records are fuzzed: `make fuzz` does it for longer."""

from __future__ import annotations

import os

NUM_EXAMPLES = int(os.environ.get("SEISMOGRAD_FUZZ", "60"))
