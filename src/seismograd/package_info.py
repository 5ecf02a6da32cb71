"""The installed package: its version and location. Imports nothing of the package, so that every
part can use it.
"""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"
PACKAGE_DIR = Path(__file__).parent
