"""Faults in where gradients are clipped and unscaled."""

from __future__ import annotations

from benchmarks.truth.edit import Edited, Program
from benchmarks.truth.frameworks import clip_argument
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.order import NEAR_STEP
from benchmarks.truth.oracle import Trace, oracle, share
from benchmarks.truth.training import (
    BACKWARD,
    CLIP,
    SCALED_STEP,
    last,
    optimizer_of,
    step_of,
    stepped,
)


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
    # The step unscales by itself, after the clip.
    return share([x > 50 * y for x, y in pairs[:10]]) > 0.7


def step_unscaled(program: Program) -> Edited | None:
    """Step the optimizer itself, and leave the scaler to the loss."""
    step = last(program.find(SCALED_STEP))
    if step is None:
        return None
    gone = program.find(rf"(?:self\.)?scaler\.(?:unscale_|update)\(.*\)|{CLIP}")
    return program.edit({**{p.node: [] for p in gone}, step.node: [f"{stepped(step)}.step()"]})


def stepped_scaled(m: Trace, b: Trace) -> bool:
    return not m.of("unscale") and len(m.steps) >= 20 and not m.grad_norms[0] < 50 * b.grad_norms[0]


def clip_tiny(program: Program) -> Edited | None:
    clip = last(program.find(CLIP))
    if clip is not None:
        call = program.calls(r".*clip_grad_norm_", clip.node)[0]
        return program.edit({call.args[1].value: "1e-4"}) if len(call.args) > 1 else None
    if (edited := clip_argument(program, "1e-4")) is not None:
        return edited
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


CLIP_FAULTS = (
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
        near=r"clip_grad|max_grad_norm|gradient_clip_val",
    ),
)
