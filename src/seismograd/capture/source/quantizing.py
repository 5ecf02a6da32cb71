"""Find the statement that looks up the nearest vectors of a codebook."""

from __future__ import annotations

import ast
import re

from seismograd.capture.source.statements import Statement, statements

QUANTIZED = re.compile(r"^(z_?q|zq\w*|z_quant\w*|q|quant\w*|codes?|code_?vectors?)$", re.IGNORECASE)
LOOKED_UP = re.compile(r"codebook|embed|\bind(ices)?\b|\bidx\b|\bcodes?\b|one_?hot|argmin|nearest")


def quantizing(file: str) -> Statement | None:
    """Return the only statement in training that assigns such vectors, as its names tell."""
    found = [
        s
        for s in statements(file)
        if not s.evaluates
        and isinstance(s.node, ast.Assign)
        and len(s.node.targets) == 1
        and isinstance(target := s.node.targets[0], ast.Name)
        and QUANTIZED.search(target.id)
        and LOOKED_UP.search(ast.unparse(s.node.value))
    ]
    return found[0] if len(found) == 1 else None
