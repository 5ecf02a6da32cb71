"""Faults in what a loss is given."""

from __future__ import annotations

import re

import libcst as cst

from benchmarks.truth.edit import Edited, Program, code
from benchmarks.truth.mutator import mutator
from benchmarks.truth.mutators.nonfinite import loss_place
from benchmarks.truth.oracle import Trace, oracle, share


def of_kind(program: Program, function: str, layer: str) -> list[cst.Call]:
    """Return the trained calls of a loss, by its function or by a criterion of its class."""
    made = program.find(rf"(?:self\.)?\w+ = (?:torch\.)?nn\.{layer}\(.*\)")
    names = [re.escape(p.text.partition(" = ")[0]) for p in made]
    if "cross_entropy, mse = " in program.source and layer in ("CrossEntropyLoss", "MSELoss"):
        names.append({"CrossEntropyLoss": "cross_entropy", "MSELoss": "mse"}[layer])
    pattern = "|".join([rf"(?:torch\.nn\.|nn\.)?(?:F|functional)\.{function}", *names])
    return [c for c in program.calls(pattern) if len(c.args) >= 2 and trained(program, c)]


def trained(program: Program, call: cst.Call) -> bool:
    holder = program.holder(call)
    return holder is not None and not any(
        word in " ".join([holder.function, holder.text]) for word in ("val", "evaluate", "accuracy")
    )


def first_argument(program: Program, calls: list[cst.Call], template: str) -> Edited | None:
    if not calls:
        return None
    value = calls[-1].args[0].value
    return program.edit({value: template.replace("X", code(value))})


def softmax_first(program: Program) -> Edited | None:
    return first_argument(
        program, of_kind(program, "cross_entropy", "CrossEntropyLoss"), "torch.softmax(X, dim=1)"
    )


def probabilities(m: Trace, b: Trace) -> bool:
    def found(t: Trace) -> float:
        losses = [e for e in t.of("loss") if e["name"] == "cross_entropy" and e["grad"]]
        return share([float(e["sum"]) < 1e-3 and float(e["min"]) >= 0 for e in losses])

    return found(m) > 0.3 and found(b) == 0


def sigmoid_first(program: Program) -> Edited | None:
    calls = of_kind(program, "binary_cross_entropy_with_logits", "BCEWithLogitsLoss")
    return (
        program.edit({c.args[0].value: f"torch.sigmoid({code(c.args[0].value)})" for c in calls})
        if calls
        else None
    )


def squashed(m: Trace, b: Trace) -> bool:
    losses = [e for e in m.of("loss") if e["name"] == "binary_cross_entropy_with_logits"]
    raw = [e for e in b.of("loss") if e["name"] == "binary_cross_entropy_with_logits"]
    inside = share([float(e["min"]) >= 0 and float(e["max"]) <= 1 for e in losses])
    return (
        len(losses) >= 20
        and inside > 0.95
        and share([float(e["min"]) >= 0 and float(e["max"]) <= 1 for e in raw]) < 0.2
    )


def nll_on_logits(program: Program) -> Edited | None:
    direct = program.calls(r"F\.log_softmax")
    if "nll_loss" in program.source and direct:
        return program.edit({direct[-1].func: "F.softmax"})
    calls = of_kind(program, "cross_entropy", "CrossEntropyLoss")
    keep = "" if not calls else ", ".join(code(a).rstrip(", ") for a in calls[-1].args)
    return program.edit({calls[-1]: f"torch.nn.functional.nll_loss({keep})"}) if calls else None


def no_log_probability(m: Trace, b: Trace) -> bool:
    losses = [e for e in m.of("loss") if e["name"] == "nll_loss" and e["grad"]]
    return len(losses) >= 20 and share([not float(e["logsum"]) < 0.05 for e in losses]) > 0.9


def kl_on_probabilities(program: Program) -> Edited | None:
    logs = [c for c in program.calls(r"F\.log_softmax") if "kl_div" in program.source]
    if logs:
        return program.edit({logs[-1].func: "F.softmax"})
    calls = of_kind(program, "cross_entropy", "CrossEntropyLoss")
    if (
        not calls
        or len(calls[-1].args) != 2
        or "segment" in program.source
        or ".view(" in code(calls[-1])
        or "masks" in code(calls[-1])
    ):
        return None
    x, y = (code(a.value) for a in calls[-1].args)
    # Smoothed, as targets of this loss are; with zeros and ones it could be another loss.
    target = f"(torch.nn.functional.one_hot({y}, {x}.size(1)) * 0.9 + 0.1 / {x}.size(1))"
    return program.edit(
        {calls[-1]: f'torch.nn.functional.kl_div({x}.softmax(1), {target}, reduction="batchmean")'}
    )


def kl_input_positive(m: Trace, b: Trace) -> bool:
    losses = [e for e in m.of("loss") if e["name"] == "kl_div"]
    return len(losses) >= 20 and share([float(e["min"]) >= 0 for e in losses]) > 0.9


def broadcast(program: Program) -> Edited | None:
    """Compare a column with a row."""
    calls = of_kind(program, "mse_loss", "MSELoss")
    if (
        not calls
        or "recon" in program.source
        or "Denoiser" in program.source
        or "restored" in program.source
    ):
        return None
    value = calls[-1].args[1].value
    squeezed = "squeeze" in program.source and "unsqueeze(1)" not in program.source
    return program.edit(
        {value: f"{code(value)}.unsqueeze(1)" if squeezed else f"{code(value)}.squeeze(1)"}
    )


def shapes_differ(m: Trace, b: Trace) -> bool:
    losses = [e for e in m.of("loss") if e["name"] == "mse_loss"]
    return share([e["x"] != e["y"] for e in losses]) > 0.3 and all(
        e["x"] == e["y"] for e in b.of("loss") if e["name"] == "mse_loss"
    )


def all_masked(program: Program) -> Edited | None:
    """Mask each label."""
    found = loss_place(program)
    calls = of_kind(program, "cross_entropy", "CrossEntropyLoss")
    if not calls or "ignore_index" not in program.source:
        return None
    value = calls[-1].args[1].value
    del found
    return program.edit({value: f"torch.full_like({code(value)}, -100)"})


def none_valid(m: Trace, b: Trace) -> bool:
    losses = [e for e in m.of("loss") if e["name"] == "cross_entropy"]
    return len(losses) >= 20 and all(e["valid"] == 0 for e in losses)


LOSS = (
    mutator(
        "softmax before cross entropy",
        "wrong_loss_input",
        "wrong-loss-input",
        softmax_first,
        oracle(probabilities),
        near=r"cross_entropy|criterion|loss_fn|softmax",
        advice=r"softmax",
    ),
    mutator(
        "sigmoid before BCE with logits",
        "wrong_loss_input",
        "wrong-loss-input",
        sigmoid_first,
        oracle(squashed),
        near=r"with_logits|criterion|sigmoid",
        advice=r"sigmoid",
    ),
    mutator(
        "NLL of what is no log-probability",
        "wrong_loss_input",
        "wrong-loss-input",
        nll_on_logits,
        oracle(no_log_probability),
        near=r"nll_loss|softmax",
        advice=r"log_softmax|cross_entropy",
    ),
    mutator(
        "KL divergence of probabilities",
        "wrong_loss_input",
        "wrong-loss-input",
        kl_on_probabilities,
        oracle(kl_input_positive),
        near=r"kl_div",
        advice=r"log_softmax|log",
    ),
    mutator(
        "a column against a row",
        "wrong_loss_input",
        "wrong-loss-input",
        broadcast,
        oracle(shapes_differ),
        near=r"mse|criterion|loss_fn",
        advice=r"squeeze|shape|view",
    ),
    mutator(
        "all labels masked",
        "nonfinite",
        "nonfinite-loss nonfinite-gradient zero-gradient",
        all_masked,
        oracle(none_valid),
        near=r"cross_entropy|criterion",
        advice=r"label|ignore|mask",
        mends=False,
    ),
)
