"""Write a statement that sums up a term of a loss so that it fits a term that is a mean."""

from __future__ import annotations

import ast

from seismograd.parsed_source import parsed


def divided(text: str, numel: int) -> str:
    """Return the assignment with its value divided by `numel`, over which the mean is; what to
    write where there is no such statement.
    """
    tree = parsed(text)
    match tree.body if tree is not None else []:
        case [ast.Assign(targets=[target], value=value)]:
            mended = ast.BinOp(value, ast.Div(), ast.Constant(numel))
            written = f"{ast.unparse(target)} = {ast.unparse(mended)}"
        case _:
            written = f"loss = mean_term + sum_term / {numel}"
    return f"{written}  # the mean is over {numel} numbers"
