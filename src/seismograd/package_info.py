"""What the installed package is: its version and where it lies. Imports nothing of the package,
so that every part may ask.
"""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
PACKAGE_DIR = Path(__file__).parent
