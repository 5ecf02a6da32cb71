"""What the columns and the entries of a record stand for: parameters, optimizers, places in the
code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """One column of the record.

    `depth` is its position in the order of execution (0 is nearest the input), `None` when the
    graph did not show it. `module` is the class name of the module that holds it, `optimizer` and
    `group` index what updates it. `activation` is the function that its output goes through next
    (`"relu"`, `"sigmoid"`, as the graph calls it), empty when none was seen. `compute_dtype` is the
    dtype of the operation that reads it, where autocast chose another one. `registered`: a module
    has it among its parameters; otherwise only the graph of a loss showed it. `branch`: weights of
    different branches lie on parallel paths, as those of an actor and a critic do; what precedes or
    follows both belongs to the first. `frozen_in_name`: `requires_grad = False` was set on a module
    that holds it, which has no effect. `root` numbers the outermost modules: which of them holds
    it, -1 for none, or where it is not known; `model` is the script's name for that module, empty
    where it is not known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    module: str = ""
    aliases: tuple[str, ...] = ()
    depth: int | None = None
    trainable: bool = True
    optimizer: int | None = None
    group: int | None = None
    activation: str = ""
    compute_dtype: str = ""
    registered: bool = True
    frozen_in_name: bool = False
    branch: int = 0
    root: int = -1
    model: str = ""


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer that stepped: its index in the run, its class, the name it has in the script
    when one was found.
    """

    index: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the user's code. `label` is the script's name for the loss that is backpropagated
    there, if it gives one. `via` is the package through which the script makes the call there
    (`accelerate`), empty where it calls torch itself. `text` is the statement at this line where it
    fits on it, without its indentation; empty otherwise, and for lines of a library.
    """

    file: str
    line: int
    function: str
    label: str = ""
    via: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"
