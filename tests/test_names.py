"""One name means one thing: in the whole package no class is called as another one, and few
files are.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import seismograd

FILES = sorted(Path(seismograd.__file__).parent.rglob("*.py"))
MAY_REPEAT = {
    "__init__",
}
CALLED_ALIKE = {
    "SeismogradCallback",  # one of each framework, public: users import it by its module
}


def test_no_two_classes_have_the_same_name() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    names = Counter(
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert {name for name, count in names.items() if count > 1} <= CALLED_ALIKE


def test_no_two_files_have_the_same_name() -> None:
    names = Counter(path.stem for path in FILES)
    assert {name for name, count in names.items() if count > 1} <= MAY_REPEAT
