"""`python -m seismograd` is the same as `seismograd`."""

import sys

from seismograd.cli import main

sys.exit(main())
