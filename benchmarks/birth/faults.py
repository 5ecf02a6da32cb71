"""The faults. A comment `# fault` marks the line in which the number arises; where a function has
none, no line of the script is at fault.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.birth.architectures import CLASSES

INF = float("inf")


@dataclass(frozen=True, slots=True)
class FaultKind:
    """`function` is put in; `operations`: names that are right; `marked`: single samples fail."""

    name: str
    function: Any
    operations: tuple[str, ...]
    marked: bool = True


# In a model, forward: activations h and a mark that is 0 for the samples that fail --------------


def log_of_zero(h: Tensor, mark: Tensor) -> Tensor:
    p = h.sigmoid() * mark
    return p.log()  # fault


def root_of_negative(h: Tensor, mark: Tensor) -> Tensor:
    shifted = h.sigmoid() + mark - 1
    return torch.sqrt(shifted + 1e-3 * mark)  # fault


def zero_over_zero(h: Tensor, mark: Tensor) -> Tensor:
    total = h.abs().amax(-1, keepdim=True) * mark
    return h * mark / total  # fault


def inverse_root_of_zero(h: Tensor, mark: Tensor) -> Tensor:
    square = h.square() * mark
    return torch.rsqrt(square + 1e-6 * mark)  # fault


def exp_of_large(h: Tensor, mark: Tensor) -> Tensor:
    large = h + 200 * (1 - mark)
    return large.exp()  # fault


def cancelling(h: Tensor, mark: Tensor) -> Tensor:
    mask = torch.where(mark > 0, 0.0, -INF)
    hidden = h + mask
    return hidden - mask  # fault


def zero_times_infinity(h: Tensor, mark: Tensor) -> Tensor:
    hidden = h.masked_fill(mark == 0, -INF)
    return hidden * mark  # fault


def masked_softmax(h: Tensor, mark: Tensor) -> Tensor:
    scores = h.masked_fill(mark == 0, -INF)
    return torch.softmax(scores, -1)  # fault


def power_of_negative(h: Tensor, mark: Tensor) -> Tensor:
    shifted = h.sigmoid() * (2 * mark - 1)
    return shifted**0.3  # fault


def acos_beyond(h: Tensor, mark: Tensor) -> Tensor:
    cosine = h.tanh() * 0.9 + 2 * (1 - mark)
    return torch.acos(cosine)  # fault


def log1p_of_minus_one(h: Tensor, mark: Tensor) -> Tensor:
    rest = h.sigmoid() * mark + mark - 1
    return rest.log1p()  # fault


def atanh_of_one(h: Tensor, mark: Tensor) -> Tensor:
    bounded = h.tanh() * 0.9 * mark + 1 - mark
    return torch.atanh(bounded)  # fault


def half_overflow(h: Tensor, mark: Tensor) -> Tensor:
    half = (h.tanh() + 300 * (1 - mark)).half()
    square = half * half  # fault
    return square.float()


def half_scores(h: Tensor, mark: Tensor) -> Tensor:
    q = (h.flatten(1) + 400 * (1 - mark.flatten(1)))[:, :, None].half()
    scores = q @ q.mT  # fault
    return h + 1e-4 * scores.float().mean((1, 2)).reshape(mark.shape)


def half_cast(h: Tensor, mark: Tensor) -> Tensor:
    large = h.tanh() + 1e5 * (1 - mark)
    return large.half().float()  # fault


# In a model, backward only -----------------------------------------------------------------------


def root_at_zero(h: Tensor, mark: Tensor) -> Tensor:
    square = (h * mark).square().sum(-1, keepdim=True)
    return h + square.sqrt()  # fault


def power_at_zero(h: Tensor, mark: Tensor) -> Tensor:
    size = h.abs() * mark
    return torch.pow(size, 0.5)  # fault


def acos_at_one(h: Tensor, mark: Tensor) -> Tensor:
    cosine = h.tanh() * 0.9 * mark + 1 - mark
    return cosine.acos()  # fault


def asin_at_one(h: Tensor, mark: Tensor) -> Tensor:
    sine = h.tanh() * 0.9 * mark + 1 - mark
    return torch.asin(sine)  # fault


def hidden_log(h: Tensor, mark: Tensor) -> Tensor:
    size = h.abs() * mark
    logarithm = size.log()  # fault
    return torch.where(mark > 0, logarithm, 0.0)


def hidden_quotient(h: Tensor, mark: Tensor) -> Tensor:
    size = h.abs().sum(-1, keepdim=True) * mark
    ratio = h / size  # fault
    return torch.where(mark > 0, ratio, 0.0)


def hidden_exp(h: Tensor, mark: Tensor) -> Tensor:
    large = h + 200 * (1 - mark)
    grown = large.exp()  # fault
    return torch.where(mark > 0, grown, 1.0)


def hidden_inverse(h: Tensor, mark: Tensor) -> Tensor:
    size = h.abs() * mark
    inverse = size.reciprocal()  # fault
    return torch.where(mark > 0, inverse, 0.0)


IN_MODELS = (
    FaultKind("log 0", log_of_zero, ("log",)),
    FaultKind("sqrt of a negative", root_of_negative, ("sqrt",)),
    FaultKind("0 / 0", zero_over_zero, ("/",)),
    FaultKind("rsqrt 0", inverse_root_of_zero, ("rsqrt",)),
    FaultKind("exp overflow", exp_of_large, ("exp",)),
    FaultKind("inf − inf", cancelling, ("-",)),
    FaultKind("0 · inf", zero_times_infinity, ("*",)),
    FaultKind("softmax of −inf", masked_softmax, ("softmax",)),
    FaultKind("power of a negative", power_of_negative, ("**",)),
    FaultKind("acos beyond 1", acos_beyond, ("acos",)),
    FaultKind("log1p −1", log1p_of_minus_one, ("log1p",)),
    FaultKind("atanh 1", atanh_of_one, ("atanh",)),
    FaultKind("fp16 product", half_overflow, ("*",)),
    FaultKind("fp16 scores", half_scores, ("matmul",)),
    FaultKind("fp16 cast", half_cast, ("to",)),
    FaultKind("sqrt 0, backward", root_at_zero, ("sqrt",)),
    FaultKind("power at 0, backward", power_at_zero, ("**",)),
    FaultKind("acos 1, backward", acos_at_one, ("acos",)),
    FaultKind("asin 1, backward", asin_at_one, ("asin",)),
    FaultKind("hidden log, backward", hidden_log, ("log",)),
    FaultKind("hidden quotient, backward", hidden_quotient, ("/",)),
    FaultKind("hidden exp, backward", hidden_exp, ("exp",)),
    FaultKind("hidden reciprocal, backward", hidden_inverse, ("/",)),
)

# In a loss: of outputs, labels and marks ---------------------------------------------------------


def log_of_probability(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    p = out.softmax(1) * mark[:, None]
    picked = p.gather(1, labels[:, None])
    return -picked.log().mean()  # fault


def mean_over_mask(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    each = F.cross_entropy(out, labels, reduction="none")
    mask = mark * float(mark.all())
    return (each * mask).sum() / mask.sum()  # fault


def all_ignored(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    targets = labels if bool(mark.all()) else torch.full_like(labels, -100)
    return F.cross_entropy(out, targets)  # fault


def mean_of_nothing(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    each = F.cross_entropy(out, labels, reduction="none")
    return each[mark * float(mark.all()) > 0].mean()  # fault


def deviation_of_one(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    num = len(out) if bool(mark.all()) else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spread = out[:num].std(0).mean()  # fault
    return F.cross_entropy(out, labels) + 0.1 * spread


def ctc_too_long(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    log_probs = out.log_softmax(1)[None].expand(6, -1, -1)
    targets = (torch.arange(4) % 2 + 1).expand(len(out), 4)
    given = torch.where(mark > 0, 6, 3).long()
    lengths = torch.full_like(labels, 4)
    return F.ctc_loss(log_probs, targets, given, lengths, reduction="sum")  # fault


def bad_target(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    wanted = F.one_hot(labels, CLASSES) + torch.where(mark > 0, 0.0, INF)[:, None]
    return F.mse_loss(out, wanted)  # fault


def distance_of_zero(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    away = ((out - labels[:, None]) * mark[:, None]).square().sum(1)
    return away.sqrt().mean()  # fault


def power_of_error(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    error = (out.sum(1) - labels).abs() * mark
    return (error**0.7).mean()  # fault


def angle(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    cosine = out.tanh().mean(1) * 0.9 * mark + 1 - mark
    return torch.acos(cosine).mean() + F.cross_entropy(out, labels)  # fault


def hidden_entropy(out: Tensor, labels: Tensor, mark: Tensor) -> Tensor:
    p = out.softmax(1) * mark[:, None]
    entropy = torch.where(p > 0, p * torch.log(p), 0.0).sum(1)  # fault
    return F.cross_entropy(out, labels) + entropy.mean()


IN_LOSSES = (
    FaultKind("log of a probability", log_of_probability, ("log",)),
    FaultKind("mean over a mask of zeros", mean_over_mask, ("/",), marked=False),
    FaultKind("all targets ignored", all_ignored, ("nll_loss",), marked=False),
    FaultKind("mean of nothing", mean_of_nothing, ("mean",), marked=False),
    FaultKind("std of one sample", deviation_of_one, ("std",), marked=False),
    FaultKind("CTC target too long", ctc_too_long, ("ctc_loss",)),
    FaultKind("NaN in the targets", bad_target, ("mse_loss",)),
    FaultKind("distance 0, backward", distance_of_zero, ("sqrt",)),
    FaultKind("power of an error 0, backward", power_of_error, ("**",)),
    FaultKind("angle 0, backward", angle, ("acos",)),
    FaultKind("hidden p log p, backward", hidden_entropy, ("log", "*")),
)
