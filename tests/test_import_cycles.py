"""No module needs itself to be understood: imports form no cycle, those for types included.

What a function imports when it is called is left out: it may wait for a reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from seismograd.package_info import PACKAGE_DIR


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE_DIR.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE_DIR.rglob("*.py")}


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All that runs when the module is imported, and what stands under TYPE_CHECKING."""
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody"):
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from statements(getattr(statement, block, []))


def imported_by(name: str) -> set[str]:
    found: set[str] = set()
    for statement in statements(ast.parse(MODULES[name].read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.Import):
            found.update(each.name for each in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module is not None:
            names = {f"{statement.module}.{each.name}" for each in statement.names}
            found.update(names)
            if not names <= MODULES.keys():
                found.add(statement.module)
    return (found & MODULES.keys()) - {name}


def test_no_modules_import_each_other() -> None:
    graph = {name: imported_by(name) for name in MODULES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f"these import each other: {error.args[1]}") from error
