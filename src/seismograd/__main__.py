"""`python -m seismograd` is the same as `seismograd`."""

from __future__ import annotations

import sys

from seismograd.cli import main

sys.exit(main())
