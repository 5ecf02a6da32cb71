"""Faults in what holds the weights: optimizers, scalers, modes and copies."""

from __future__ import annotations

import re

import libcst as cst

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.graph import MAKES
from benchmarks.truth.oracle import Trace, oracle, share
from benchmarks.truth.training import OPTIMIZER, last, optimizer_of, step_of, stepped


def remade(program: Program, per: str) -> Edited | None:
    """Make the optimizer anew in each epoch, or for each batch."""
    made, step = optimizer_of(program), step_of(program)
    if (
        not made
        or step is None
        or not step.loops
        or stepped(step) != made[2]
        or program.find(r".*(scheduler|sched)\b.*")
    ):
        return None
    if per == "epoch" and len(step.loops) < 2:
        return None
    loop = step.loops[0] if per == "epoch" else step.loops[-1]
    return program.edit({loop.body.body[0]: [made[0].text, loop.body.body[0]]})


def many_made(m: Trace, b: Trace) -> bool:
    return len(m.of("optimizer")) - len(b.of("optimizer")) >= 4


def two_hold(program: Program) -> Edited | None:
    made, step = optimizer_of(program), step_of(program)
    if (
        not made
        or step is None
        or stepped(step) != made[2]
        or "scaler" in step.text
        or "closure" in step.text
    ):
        return None
    place, call, name, _model = made
    if name.startswith("self.") or place.function not in ("", step.function):
        return None
    if not re.fullmatch(OPTIMIZER, code(call.func)):
        return None
    second = place.text.replace(f"{name} = ", "extra_optimizer = ", 1)
    return program.edit(
        {place.node: [place.node, second], step.node: [step.node, "extra_optimizer.step()"]}
    )


def stepped_twice(m: Trace, b: Trace) -> bool:
    last_by: dict[str, int] = {}
    twice = 0
    for e in m.events:
        if e["e"] == "backward":
            last_by = {}
        elif e["e"] == "step":
            twice += any(last_by.get(i, e["opt"]) != e["opt"] for i in e["params"])
            last_by |= dict.fromkeys(e["params"], e["opt"])
    return twice >= 20


def scaler_remade(program: Program) -> Edited | None:
    made = last(program.find(r"(self\.)?scaler = .*GradScaler\(.*\)"))
    step = last(program.find(r"(self\.)?scaler\.step\(.*\)"))
    if made is None or step is None:
        return None
    fresh = re.sub(r"init_scale=[\d.*]+", "init_scale=2.0**40", made.text)
    if step.loops:
        return program.edit(
            {step.loops[0].body.body[0]: [fresh, step.loops[0].body.body[0]], made.node: [fresh]}
        )
    loops = [p for p in program.places if isinstance(p.node, cst.For) and not p.outer]
    if not loops:
        return None
    body = loops[-1].node.body.body
    return program.edit({body[0]: [fresh.replace("self.", "trainer."), body[0]]})


def eval_stays(program: Program) -> Edited | None:
    """Forget to go back to training after the evaluation."""
    trains = program.find(r"(self\.)?(model|net)\.train\(\)")
    step = step_of(program)
    if not trains or not program.find(r"(self\.)?(model|net)\.eval\(\)") or step is None:
        return None
    return program.edit({t.node: [] for t in trains})


def in_eval(m: Trace, b: Trace) -> bool:
    late = m.steps[len(m.steps) // 2 :]
    return (
        len(late) >= 10
        and share([s["modes"][1] > 0 for s in late]) > 0.9
        and not any(s["modes"][1] for s in b.steps)
    )


def overwritten(program: Program) -> Edited | None:
    """Load the first weights again at each epoch."""
    made, step = optimizer_of(program), step_of(program)
    if not made or step is None or len(step.loops) < 2 or program.find(r".*load_state_dict.*"):
        return None
    body = step.loops[0].body.body
    save = f"checkpoint = {{k: v.clone() for k, v in {made[3]}.state_dict().items()}}"
    return program.edit(
        {
            made[0].node: [made[0].node, save],
            body[0]: [f"{made[3]}.load_state_dict(checkpoint)", body[0]],
        }
    )


def not_restored(program: Program) -> Edited | None:
    """Judge the average of the weights and train on with it."""
    places = program.find(r"ema\.restore\(.*\)|model\.load_state_dict\(backup\)")
    return program.edit({p.node: [] for p in places}) if places else None


def jumps(m: Trace, b: Trace) -> bool:
    return (
        sum(len(s["drift"]) > 0 for s in m.steps) >= 3 + sum(len(s["drift"]) > 0 for s in b.steps)
        and "restore" not in m.error
    )


def blended(m: Trace, b: Trace) -> bool:
    return m.losses != b.losses and sum(len(s["drift"]) > 0 for s in m.steps) >= 3


HOLDING = (
    mutator(
        "optimizer remade each epoch",
        "optimizer_remade",
        "optimizer-remade",
        lambda p: remade(p, "epoch"),
        oracle(many_made),
        near=MAKES,
    ),
    mutator(
        "optimizer remade each batch",
        "optimizer_remade",
        "optimizer-remade",
        lambda p: remade(p, "batch"),
        oracle(many_made),
        near=MAKES,
    ),
    mutator(
        "one tensor in two optimizers",
        "in_two_optimizers",
        "in-two-optimizers step-without-backward",
        two_hold,
        oracle(stepped_twice),
        near=MAKES + r"|\.step\(",
        mends=False,
    ),
    mutator(
        "scaler remade each epoch",
        "scaler_remade",
        "scaler-remade skipped-steps",
        scaler_remade,
        oracle(lambda m, b: len(m.of("scaler")) >= 3 and len(m.of("step")) < len(b.of("step"))),
        near=r"GradScaler",
        advice=r"once|scaler",
    ),
    mutator(
        "left in eval mode",
        "left_in_eval_mode",
        "left-in-eval-mode",
        eval_stays,
        oracle(in_eval),
        near=r"eval\(\)|\.backward\(",
        advice=r"train\(\)",
    ),
    mutator(
        "first weights loaded each epoch",
        "weights_overwritten",
        "weights-overwritten",
        overwritten,
        oracle(jumps),
        near=r"load_state_dict",
    ),
    mutator(
        "average of the weights not restored",
        "weights_overwritten",
        "weights-overwritten",
        not_restored,
        oracle(blended),
        near=r"load_state_dict|ema\.apply",
        mends=False,
    ),
)
