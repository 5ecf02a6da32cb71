"""Faults in the order of zero_grad, backward, clip, unscale and step."""

from __future__ import annotations

import re

from benchmarks.truth.edit import (
    BACKWARD,
    CLIP,
    SCALED_STEP,
    STEP,
    ZERO,
    Edited,
    Place,
    Program,
    last,
    optimizer_of,
    step_of,
    stepped,
)
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import Trace, oracle, share, shows


def beside(program: Program, place: Place, pattern: str) -> list[Place]:
    """Return the matching statements in the same function as `place`."""
    return [
        p
        for p in program.find(pattern)
        if p.function == place.function and bool(p.outer) == bool(place.outer)
    ]


def drop_zero(program: Program) -> Edited | None:
    step = step_of(program)
    zeros = beside(program, step, ZERO) if step else []
    own = [z for z in zeros if z.text.startswith(stepped(step) + ".")] if step else []
    gone = own or (zeros if len(program.find(f"{STEP}|{SCALED_STEP}")) == 1 else [])
    return program.edit({z.node: [] for z in gone}) if gone else None


def never_cleared(m: Trace, b: Trace) -> bool:
    gaps = m.between_steps()[1:]
    return len(gaps) >= 20 and share(["zero_grad" not in g and "backward" in g for g in gaps]) > 0.8


def zero_before_step(program: Program) -> Edited | None:
    step = step_of(program)
    if step is None or "closure" in step.text or len(step.outer) == 0:
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
    return program.edit({step.node: [step.node, step.text]}) if step else None


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
    if (
        step is None
        or "closure" in step.text
        or len(beside(program, step, f"{STEP}|{SCALED_STEP}")) > 1
    ):
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


def clip_moved(program: Program, to: str) -> Edited | None:
    clip, step = last(program.find(CLIP)), step_of(program)
    back = last(program.find(BACKWARD))
    if clip is None or step is None or back is None or "scaler" in step.text:
        return None
    anchor = step if to == "after" else back
    if anchor.node not in clip.siblings:
        return None
    new = [anchor.node, clip.text] if to == "after" else [clip.text, anchor.node]
    return program.edit({clip.node: [], anchor.node: new})


def clip_added_late(program: Program) -> Edited | None:
    """In a program that does not clip, add a clip at the wrong place."""
    made, step = optimizer_of(program), step_of(program)
    if (
        not made
        or step is None
        or program.find(CLIP)
        or made[2] != stepped(step)
        or "scaler" in step.text
        or "closure" in step.text
    ):
        return None
    return program.edit(
        {step.node: [step.node, f"torch.nn.utils.clip_grad_norm_({made[3]}.parameters(), 0.5)"]}
    )


def clip_after_step(program: Program) -> Edited | None:
    return clip_moved(program, "after") or clip_added_late(program)


def clipped_late(m: Trace, b: Trace) -> bool:
    """No step has a clip between its backward and itself, and each has one elsewhere."""
    gaps = m.between_steps()[1:]
    return (
        len(gaps) >= 20
        and share(
            [
                "clip" in g and "backward" in g and g.index("clip") < g.index("backward")
                for g in gaps
            ]
        )
        > 0.9
    )


def clip_unscaled(program: Program) -> Edited | None:
    unscale = last(program.find(r"(self\.)?scaler\.unscale_\(.*\)"))
    return program.edit({unscale.node: []}) if unscale and program.find(CLIP) else None


def clipped_scaled(m: Trace, b: Trace) -> bool:
    pairs = list(
        zip(
            [float(c["norm"]) for c in m.of("clip")],
            [float(c["norm"]) for c in b.of("clip")],
            strict=False,
        )
    )
    return not m.of("unscale") and share([x > 50 * y for x, y in pairs[:10]]) > 0.7


def step_unscaled(program: Program) -> Edited | None:
    step, unscale = (
        last(program.find(SCALED_STEP)),
        last(program.find(r"(self\.)?scaler\.unscale_\(.*\)")),
    )
    clip = last(program.find(CLIP))
    if step is None:
        return None
    gone = {p.node: [] for p in (unscale, clip) if p}
    return program.edit({**gone, step.node: [f"{stepped(step)}.step()"]})


def stepped_scaled(m: Trace, b: Trace) -> bool:
    return not m.of("unscale") and len(m.steps) >= 20 and not m.grad_norms[0] < 50 * b.grad_norms[0]


def clip_tiny(program: Program) -> Edited | None:
    clip = last(program.find(CLIP))
    if clip is not None:
        call = program.calls(r".*clip_grad_norm_", clip.node)[0]
        return program.edit({call.args[1].value: "1e-4"}) if len(call.args) > 1 else None
    made, step = optimizer_of(program), step_of(program)
    if not made or step is None or made[2] != stepped(step) or "closure" in step.text:
        return None
    return program.edit(
        {
            step.node: [
                f"torch.nn.utils.clip_grad_norm_({made[3]}.parameters(), max_norm=1e-4)",
                step.node,
            ]
        }
    )


def always_clipped(m: Trace, b: Trace) -> bool:
    clips = m.of("clip")
    return (
        len(clips) >= 20
        and share([float(c["norm"]) > 20 * c["max"] for c in clips]) > 0.95
        and m.final() > 1.2 * b.final()
    )


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
    mutator(
        "clip after step",
        "clip_after_step",
        "clip-without-effect",
        clip_after_step,
        oracle(clipped_late),
        near="clip_grad",
        advice=r"before|between",
    ),
    mutator(
        "clip before backward",
        "clip_after_step",
        "clip-without-effect",
        lambda p: clip_moved(p, "before"),
        oracle(clipped_late),
        near="clip_grad",
        advice=r"before|between|after",
    ),
    mutator(
        "clip before unscale",
        "clip_before_unscale",
        "clip-before-unscale",
        clip_unscaled,
        oracle(clipped_scaled),
        near="clip_grad",
        advice=r"unscale_\(",
    ),
    mutator(
        "step without unscale",
        "step_without_unscale",
        "step-without-unscale",
        step_unscaled,
        oracle(stepped_scaled),
        near=NEAR_STEP,
        advice=r"scaler\.step\(|unscale_\(",
    ),
    mutator(
        "clip far too small",
        "clipping_saturated",
        "clipping-saturated",
        clip_tiny,
        oracle(always_clipped),
        near="clip_grad",
    ),
)
