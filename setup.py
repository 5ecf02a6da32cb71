"""What pyproject.toml cannot say: compile the message catalogues while building, in editable installs too."""

from __future__ import annotations

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from setuptools import setup
from setuptools.command.build_py import build_py

LOCALE_DIR = Path(__file__).parent / "src" / "seismograd" / "locale"


class BuildWithCatalogues(build_py):
    def run(self) -> None:
        # Beside their sources and not in the build folder: an editable install runs from there. Git ignores them.
        for po in sorted(LOCALE_DIR.glob("*/LC_MESSAGES/*.po")):
            with po.open("rb") as source, po.with_suffix(".mo").open("wb") as target:
                write_mo(target, read_po(source))
        super().run()


setup(cmdclass={"build_py": BuildWithCatalogues})
