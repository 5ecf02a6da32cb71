"""Find in programs of Lightning and of Transformers' Trainer what a loop would have written out.

Nothing in them calls backward or step. What a fault is put into instead: the loss is what
`training_step` or `compute_loss` returns, the optimizer what `configure_optimizers` returns, and
numbers of the training are arguments of the Trainer.
"""

from __future__ import annotations

import libcst as cst

from benchmarks.truth.edit import Edited, Place, Program, code

OPTIMIZER = r"(?:torch\.optim\.|optim\.)?(?:SGD|Adam|AdamW|RMSprop|Muon)"
LOSS_METHODS = ("training_step", "compute_loss")
# Parts of models that a library has, in the order of the forward pass.
LIBRARY_PARTS = {"BertForSequenceClassification": ("bert", "classifier")}
TRAINER = r"trainer = (?:L\.)?\w*Trainer\(.*\)"


def method(program: Program, name: str) -> Place | None:
    """Return a method of a class in the program."""
    found = [
        p
        for p in program.places
        if isinstance(p.node, cst.FunctionDef)
        and p.node.name.value == name
        and any(isinstance(n, cst.ClassDef) for n in p.outer)
    ]
    return found[-1] if found else None


def returned_losses(program: Program) -> list[Place]:
    """Return the statements that hand a loss to a framework, which calls its backward."""
    return [p for p in program.find(r"return .*\b\w+") if p.function in LOSS_METHODS]


def framework_optimizer(program: Program) -> tuple[Place, cst.Call, str, str] | None:
    """Return where a framework is given its optimizer or model: as `optimizer_of`, no name."""
    for place in program.find(r"return .*\(self\.parameters\(\).*\)"):
        made = program.calls(OPTIMIZER, place.node)
        if made and place.function == "configure_optimizers":
            return place, made[0], "", "self"
    for place in program.find(TRAINER):
        call = program.calls(r"\w*Trainer", place.node)
        model = argument(call[0], "model") if call else None
        if model is not None:
            return place, call[0], "", code(model)
    return None


def argument(call: cst.Call, *names: str) -> cst.BaseExpression | None:
    """Return the value of the first keyword argument of these names."""
    found = (a.value for a in call.args if a.keyword is not None and a.keyword.value in names)
    return next(found, None)


def with_argument(program: Program, call: cst.Call, name: str, value: str) -> Edited | None:
    """Return the program with an argument of a call set."""
    old = argument(call, name)
    if old is not None:
        return program.edit({old: value})
    text = code(call).rstrip()
    inner = text[: text.rindex(")")].rstrip().rstrip(",")
    return program.edit({call: f"{inner}, {name}={value})"})


def settings(program: Program) -> cst.Call | None:
    """Return the call that takes the numbers of a training by Transformers."""
    calls = program.calls("TrainingArguments")
    return calls[-1] if calls else None


def lightning_trainer(program: Program) -> cst.Call | None:
    calls = program.calls(r"L\.Trainer")
    return calls[-1] if calls else None


def clip_argument(program: Program, value: str) -> Edited | None:
    """Return the program with another maximum of the gradients' norm."""
    if (call := settings(program)) is not None:
        return with_argument(program, call, "max_grad_norm", value)
    if (call := lightning_trainer(program)) is not None:
        return with_argument(program, call, "gradient_clip_val", value)
    return None


def with_hook(program: Program, lightning: str, callback: str = "") -> Edited | None:
    """Return the program with a hook: a method of its module, or of a callback of the Trainer's.

    `callback` is the method for Transformers; empty: there is none for this fault.
    """
    configure = method(program, "configure_optimizers")
    if configure is not None:
        return program.edit({configure.node: [configure.node, lightning]})
    made = program.find(TRAINER)
    calls = program.calls(r"\w*Trainer", made[-1].node) if made else []
    if not callback or not calls or settings(program) is None or argument(calls[0], "callbacks"):
        return None
    body = "\n".join("    " + line for line in callback.splitlines())
    text = code(calls[0]).rstrip()
    call = f"{text[:-1].rstrip().rstrip(',')}, callbacks=[Habits()])"
    classes = [p for p in program.places if not p.outer and isinstance(p.node, cst.ClassDef)]
    return program.edit(
        {
            classes[0].node: [
                "from transformers import TrainerCallback",
                f"class Habits(TrainerCallback):\n{body}",
                classes[0].node,
            ],
            calls[0]: call,
        }
    )
