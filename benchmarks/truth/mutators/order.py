"""Faults in the order of zero_grad, backward and step."""

from __future__ import annotations

import re

from benchmarks.truth.edit import Edited, Place, Program
from benchmarks.truth.frameworks import with_hook
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import Trace, oracle, share, shows
from benchmarks.truth.training import BACKWARD, SCALED_STEP, STEP, ZERO, last, step_of, stepped


def beside(program: Program, place: Place, pattern: str) -> list[Place]:
    """Return the matching statements in the same function as `place`."""
    return [
        p
        for p in program.find(pattern)
        if p.function == place.function and bool(p.outer) == bool(place.outer)
    ]


def drop_zero(program: Program) -> Edited | None:
    step = step_of(program)
    if step is None:
        return with_hook(
            program,
            "def optimizer_zero_grad(self, epoch, batch_idx, optimizer):\n    pass",
        )
    zeros = beside(program, step, ZERO)
    own = [z for z in zeros if z.text.startswith(stepped(step) + ".")]
    gone = own or (zeros if len(program.find(f"{STEP}|{SCALED_STEP}")) == 1 else [])
    return program.edit({z.node: [] for z in gone}) if gone else None


def never_cleared(m: Trace, b: Trace) -> bool:
    gaps = m.between_steps()[1:]
    return len(gaps) >= 20 and share(["zero_grad" not in g and "backward" in g for g in gaps]) > 0.8


def zero_before_step(program: Program) -> Edited | None:
    step = step_of(program)
    if step is None:
        return with_hook(
            program,
            "def on_before_optimizer_step(self, optimizer):\n    optimizer.zero_grad()",
            "def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):\n"
            "    optimizer.zero_grad()",
        )
    if "closure" in step.text or len(step.outer) == 0:
        return None
    moved = [z.node for z in beside(program, step, ZERO) if z.text.startswith(stepped(step) + ".")]
    return program.edit(
        {step.node: [f"{stepped(step)}.zero_grad()", step.node], **{z: [] for z in moved}}
    )


def stepped_on_nothing(m: Trace, b: Trace) -> bool:
    return len(m.steps) >= 10 and share([not m.total(s) for s in m.steps]) > 0.9


def step_first(program: Program) -> Edited | None:
    """Move the step to before the backward."""
    step = step_of(program)
    back = (
        last([p for p in beside(program, step, BACKWARD) if p.siblings is step.siblings])
        if step
        else None
    )
    same = step and back and step.node in back.siblings and back.node in step.siblings
    if not same or "scaler" in back.text:
        return None
    between = step.siblings[step.siblings.index(back.node) + 1 : step.siblings.index(step.node)]
    if any(re.search(r"\.backward\(|\.step\(", program.module.code_for_node(n)) for n in between):
        return None
    return program.edit({step.node: [], back.node: [f"{step.text}", back.node]})


def step_twice(program: Program) -> Edited | None:
    step = last([p for p in program.find(STEP) if p.outer and "closure" not in p.text])
    if step is None:
        return with_hook(
            program,
            "def on_train_batch_end(self, outputs, batch, batch_idx):\n"
            "    self.optimizers().step()",
            "def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):\n"
            "    optimizer.step()",
        )
    return program.edit({step.node: [step.node, step.text]})


def stepped_again(m: Trace, b: Trace) -> bool:
    gaps = m.between_steps()
    return len(gaps) >= 20 and 0.3 < share([not g for g in gaps]) < 0.7


def drop_backward(program: Program) -> Edited | None:
    step = step_of(program)
    back = last(list(beside(program, step, BACKWARD))) if step else None
    if (
        back is None
        or len(beside(program, step, BACKWARD)) > 1
        or "closure" in step.text
        or "scaler" in back.text
    ):
        return None
    return program.edit({back.node: []})


def never_step(program: Program) -> Edited | None:
    step = step_of(program)
    if step is None:
        return with_hook(
            program,
            "def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):\n"
            "    optimizer_closure()",
        )
    if "closure" in step.text or len(beside(program, step, f"{STEP}|{SCALED_STEP}")) > 1:
        return None
    return program.edit({step.node: []}) if step.outer else None


def nothing_stepped(m: Trace, b: Trace) -> bool:
    return len(m.of("backward")) >= 20 and len(b.of("step")) - len(m.of("step")) >= 20


def one_never_steps(program: Program) -> Edited | None:
    step = step_of(program)
    steps = beside(program, step, STEP) if step else []
    if len({s.text for s in steps}) < 2:
        return None
    return program.edit({s.node: [] for s in steps if s.text == step.text})


def one_left_out(m: Trace, b: Trace) -> tuple[str, ...] | None:
    def often(t: Trace) -> set[int]:
        return {
            o
            for o in (s["opt"] for s in t.of("step"))
            if sum(s["opt"] == o for s in t.of("step")) >= 20
        }

    return shows(0 < len(often(m)) < len(often(b)))


NEAR_STEP = r"\.step\(|\.backward\(|zero_grad"
ORDER = (
    mutator(
        "zero_grad forgotten",
        "forgot_zero_grad",
        "missing-zero-grad",
        drop_zero,
        oracle(never_cleared),
        near=NEAR_STEP,
        advice=r"zero_grad",
    ),
    mutator(
        "zero_grad between backward and step",
        "zero_grad_before_step",
        "zero-grad-before-step",
        zero_before_step,
        oracle(stepped_on_nothing),
        near=NEAR_STEP,
        advice=r"zero_grad",
    ),
    mutator(
        "step before backward",
        "step_without_backward",
        "step-without-backward zero-grad-before-step",
        step_first,
        oracle(stepped_on_nothing),
        near=NEAR_STEP,
        advice=r"backward",
    ),
    mutator(
        "step twice for one backward",
        "step_without_backward",
        "step-without-backward",
        step_twice,
        oracle(stepped_again),
        near=NEAR_STEP,
        advice=r"step|backward",
    ),
    mutator(
        "backward forgotten",
        "step_without_backward",
        "step-without-backward",
        drop_backward,
        oracle(stepped_on_nothing),
        near=NEAR_STEP,
        advice=r"backward",
    ),
    mutator(
        "never stepped",
        "never_stepped",
        "never-stepped",
        never_step,
        oracle(nothing_stepped),
        near=NEAR_STEP,
        advice=r"step\(",
    ),
    mutator(
        "one optimizer never stepped",
        "never_stepped",
        "never-stepped parameter-not-optimized",
        one_never_steps,
        one_left_out,
        near=NEAR_STEP + r"|optim",
        advice=r"step\(",
    ),
)
