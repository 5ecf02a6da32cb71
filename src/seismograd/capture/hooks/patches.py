"""The list of patched functions, one file each: a patch is `install(hub) -> undo`, and a line here.

A patched function does what the original does, returns what it returns, raises what it raises;
`undo` restores the very same object.
"""

from __future__ import annotations

from seismograd.capture.hooks import (
    backward_calls,
    clip_grad,
    collectives,
    distribution_samples,
    fsdp_clip,
    grad_scaler,
    load_state,
    lr_scheduler,
    packing_hooks,
    pipeline_stage,
    registrations,
    seeding,
    step_calls,
    zero_grad,
    zero_step,
)

PATCHES = (
    backward_calls.install,
    zero_grad.install,
    clip_grad.install,
    grad_scaler.install,
    step_calls.install,
    lr_scheduler.install,
    load_state.install,
    collectives.install,
    zero_step.install,
    pipeline_stage.install,
    fsdp_clip.install,
    distribution_samples.install,
    packing_hooks.install,
    registrations.install,
    seeding.install,
)
