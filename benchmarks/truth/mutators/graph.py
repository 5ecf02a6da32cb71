"""Faults in the graph and in what is held: detached, frozen, left out, made anew, shared."""

from __future__ import annotations

import re

import libcst as cst

from benchmarks.truth.edit import (
    OPTIMIZER,
    Edited,
    Place,
    Program,
    code,
    last,
    optimizer_of,
    step_of,
    stepped,
)
from benchmarks.truth.mutator import mutator
from benchmarks.truth.oracle import GRAD, IDLE, Trace, names_of, oracle, share, shows


def children(program: Program, model: str) -> list[str]:
    """Return the attributes that hold layers of a model's class, in their order.

    Empty where the model is of no class of the program.
    """
    made = program.find(rf"{re.escape(model)} = (\w+)\(.*\)")
    name = re.fullmatch(r".* = (\w+)\(.*\)", made[0].text, re.DOTALL)[1] if made else ""
    found = []
    for place in program.find(r"self\.\w+ = .*nn\..*"):
        classes = [n.name.value for n in place.outer if isinstance(n, cst.ClassDef)]
        if classes == [name]:
            found.append(place.text.partition(" = ")[0].removeprefix("self."))
    return found


def left_out(program: Program) -> Edited | None:
    """Give the optimizer only the parts of the model that somebody remembered."""
    made = optimizer_of(program)
    if not made or "LBFGS" in program.source:
        return None
    _place, call, _, model = made
    parts = children(program, model)
    if len(parts) >= 2 and model != "self":
        rest = " + ".join(f"list({model}.{part}.parameters())" for part in parts[1:])
        return (
            program.edit({call.args[0].value: rest})
            if re.fullmatch(r"[\w.]+\.parameters\(\)", code(call.args[0].value))
            else None
        )
    if program.find(rf"{re.escape(model)} = nn\.Sequential\(.*\)") and re.fullmatch(
        r"[\w.]+\.parameters\(\)", code(call.args[0].value)
    ):
        return program.edit({call.args[0].value: f"{model}[2:].parameters()"})
    return None


def not_held(m: Trace, b: Trace) -> tuple[str, ...] | None:
    missing = m.reached - m.held
    names = set(names_of(m, missing)) - set(names_of(b, b.reached - b.held))
    return shows(bool(names), *sorted(names))


def replaced_late(program: Program) -> Edited | None:
    """Replace the last layer after the optimizer was made."""
    made = optimizer_of(program)
    if not made or program.find(r".*scheduler.*|sched = .*"):
        return None
    place, _, _, model = made
    linear = [c for c in children(program, model) if program.find(rf"self\.{c} = nn\.Linear\(.*\)")]
    if linear and model != "self":
        target = f"{model}.{linear[-1]}"
    elif program.find(rf"{re.escape(model)} = nn\.Sequential\(.*nn\.Linear\([^()]*\),?\s*\)"):
        target = f"{model}[-1]"
    else:
        return None
    return program.edit(
        {
            place.node: [
                place.node,
                f"{target} = nn.Linear({target}.in_features, {target}.out_features)",
            ]
        }
    )


def forwards(program: Program) -> list[Place]:
    """Return the assignments in forward methods that go from a layer on to a later statement."""
    found = []
    for place in program.find(r"(\w+) = .*self\.\w+\(.*\).*"):
        later = place.siblings[place.siblings.index(place.node) + 1 :]
        name = place.text.partition(" = ")[0]
        if (
            place.function == "forward"
            and later
            and any(re.search(rf"\b{name}\b", code(n)) for n in later)
        ):
            found.append(place)
    return found


def detached(program: Program) -> Edited | None:
    places = forwards(program)
    if not places:
        return None
    name = places[-1].text.partition(" = ")[0]
    return program.edit({places[-1].node: [places[-1].node, f"{name} = {name}.detach()"]})


def cut_off(m: Trace, b: Trace) -> tuple[str, ...] | None:
    reached = set(names_of(m, m.reached))
    names = {n for n in names_of(b, b.reached & b.held) if n not in reached} & set(
        names_of(m, m.held)
    )
    return shows(bool(names), *sorted(names))


def no_grad_part(program: Program) -> Edited | None:
    places = forwards(program)
    return (
        program.edit({places[-1].node: [f"with torch.no_grad():\n    {places[-1].text}"]})
        if places and "\n" not in places[-1].text
        else None
    )


def rounded(program: Program, function: str) -> Edited | None:
    places = forwards(program)
    if not places:
        return None
    name = places[-1].text.partition(" = ")[0]
    return program.edit({places[-1].node: [places[-1].node, f"{name} = torch.{function}({name})"]})


def all_zero(m: Trace, b: Trace) -> tuple[str, ...] | None:
    """Return parameters whose gradient is zero at nearly each step, and was not in the base."""

    def zero(t: Trace) -> set[str]:
        indices = set(t.steps[-1]["params"]) if t.steps else set()
        return {t.name(i) for i in indices if share([g == 0 for g in t.series(i, GRAD)[1:]]) > 0.9}

    names = (zero(m) - zero(b)) - {""}
    return shows(bool(names), *sorted(names))


def frozen_part(program: Program) -> Edited | None:
    """Freeze what was never trained."""
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2 or made[3] == "self":
        return None
    return program.edit(
        {
            made[0].node: [
                f"for p in {made[3]}.{parts[0]}.parameters():\n    p.requires_grad = False",
                made[0].node,
            ]
        }
    )


def unfrozen_by_attribute(program: Program) -> Edited | None:
    """Freeze all but the head, then unfreeze by an attribute of the module: in vain."""
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2 or made[3] == "self":
        return None
    model = made[3]
    lines = [
        f"{model}.requires_grad_(False)",
        f"{model}.{parts[-1]}.requires_grad_(True)",
        f"{model}.{parts[0]}.requires_grad = True",
    ]
    return program.edit({made[0].node: [*lines, made[0].node]})


def frozen_now(m: Trace, b: Trace) -> tuple[str, ...] | None:
    names = set(m.data["frozen"]) - set(b.data["frozen"])
    return shows(bool(names) and m.learned() > 1.05 * b.learned(), *sorted(names))


def misspelt(program: Program) -> Edited | None:
    made = optimizer_of(program)
    parts = children(program, made[3]) if made else []
    if not made or len(parts) < 2 or made[3] == "self":
        return None
    return program.edit(
        {
            made[0].node: [
                f"for p in {made[3]}.{parts[0]}.parameters():\n    p.require_grad = False",
                made[0].node,
            ]
        }
    )


def still_moves(m: Trace, b: Trace) -> tuple[str, ...] | None:
    return shows(set(m.data["frozen"]) == set(b.data["frozen"]) and m.losses[:3] == b.losses[:3])


def made_in_forward(program: Program) -> Edited | None:
    """Make a layer anew in each forward pass."""
    for place in forwards(program):
        for call in program.calls(r"self\.\w+", place.node):
            layer = program.find(rf"{re.escape(code(call.func))} = nn\.Linear\((.*)\)")
            sizes = layer[0].text.partition(" = ")[2] if len(layer) == 1 else ""
            if re.fullmatch(r"nn\.Linear\(\d+, \d+\)", sizes):
                return program.edit({call.func: sizes})
            if sizes:
                own = code(call.func)
                return program.edit(
                    {call.func: f"nn.Linear({own}.in_features, {own}.out_features)"}
                )
    return None


def made_again(m: Trace, b: Trace) -> bool:
    return len({i for e in m.of("backward") for i in e["leaves"]}) > 2 * len(
        {i for e in b.of("backward") for i in e["leaves"]}
    )


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
    if name.startswith("self.") or not re.fullmatch(OPTIMIZER, code(call.func)):
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


def killed_units(program: Program) -> Edited | None:
    """Begin half of the units of a layer with biases that no input makes up for."""
    made = optimizer_of(program)
    if not made or "relu" not in program.source.lower() or made[3] == "self":
        return None
    linear = [
        c for c in children(program, made[3]) if program.find(rf"self\.{c} = nn\.Linear\(.*\)")
    ]
    if len(linear) >= 2 and re.search(rf"relu\(self\.{linear[0]}\(", program.source):
        target = f"{made[3]}.{linear[0]}.bias"
    elif program.find(
        rf"{re.escape(made[3])} = nn\.Sequential\(\s*nn\.Linear\([^()]*\),\s*nn\.ReLU\(\).*"
    ):
        target = f"{made[3]}[0].bias"
    else:
        return None
    return program.edit(
        {
            made[0].node: [
                f"nn.init.constant_({target}.data[: len({target}) // 2], -30.0)",
                made[0].node,
            ]
        }
    )


def dead_rows(m: Trace, b: Trace) -> tuple[str, ...] | None:
    def dead(t: Trace) -> set[str]:
        return {
            t.name(i)
            for i in t.steps[-1]["params"]
            if share([x >= 0.4 for x in t.series(i, IDLE)]) > 0.9
        }

    names = dead(m) - dead(b) - {""}
    return shows(bool(names), *sorted(names))


MAKES = r"\.parameters\(\)|optim"
GRAPH = (
    mutator(
        "layers left out of the optimizer",
        "param_not_in_optimizer",
        "parameter-not-optimized",
        left_out,
        not_held,
        near=MAKES,
        advice=r"parameters\(\)|add_param_group|optimizer",
    ),
    mutator(
        "layer replaced after the optimizer was made",
        "param_not_in_optimizer",
        "parameter-not-optimized",
        replaced_late,
        not_held,
        near=MAKES,
        advice=r"after|add_param_group|optimizer",
    ),
    mutator(
        "detach between layers",
        "no_grad_flow",
        "no-gradient parameter-not-optimized",
        detached,
        cut_off,
        advice=r"detach|no_grad",
    ),
    mutator(
        "no_grad around a layer",
        "no_grad_flow",
        "no-gradient",
        no_grad_part,
        cut_off,
        advice=r"detach|no_grad",
    ),
    mutator(
        "round between layers",
        "zero_gradient",
        "zero-gradient no-gradient",
        lambda p: rounded(p, "round"),
        all_zero,
        advice=r"round",
    ),
    mutator(
        "sign between layers",
        "zero_gradient",
        "zero-gradient no-gradient",
        lambda p: rounded(p, "sign"),
        all_zero,
        advice=r"sign",
    ),
    mutator(
        "frozen before it was trained",
        "frozen_by_mistake",
        "frozen-parameter",
        frozen_part,
        frozen_now,
        advice=r"requires_grad",
    ),
    mutator(
        "unfrozen by an attribute of the module",
        "frozen_by_mistake",
        "frozen-parameter",
        unfrozen_by_attribute,
        frozen_now,
        advice=r"requires_grad_\(",
    ),
    mutator(
        "requires_grad misspelt",
        "frozen_by_mistake",
        "frozen-parameter",
        misspelt,
        still_moves,
        advice=r"requires_grad",
    ),
    mutator(
        "layer made in forward",
        "parameter_remade",
        "parameter-remade parameter-not-optimized",
        made_in_forward,
        oracle(made_again),
        advice=r"__init__|once|optimizer",
    ),
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
        near=r"eval\(\)",
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
    ),
    mutator("half of the units dead", "dead_units", "dead-units", killed_units, dead_rows),
)
