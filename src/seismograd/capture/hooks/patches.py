"""One file per function that is listened to: each has `install(hub) -> undo`, and a line here.

A patched function does what the original does, returns what it returns, raises what it raises;
`undo` puts the very same object back.
"""

from __future__ import annotations

from seismograd.capture.hooks import (
    backward_patch,
    clip_grad_patch,
    grad_scaler_patch,
    lr_scheduler_patch,
    optimizer_step_patch,
    zero_grad_patch,
)

PATCHES = (
    backward_patch.install,
    zero_grad_patch.install,
    clip_grad_patch.install,
    grad_scaler_patch.install,
    optimizer_step_patch.install,
    lr_scheduler_patch.install,
)
