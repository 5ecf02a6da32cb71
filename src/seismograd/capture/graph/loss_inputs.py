"""Find inputs that do not suit their loss function, from the graph of the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch

from seismograd.capture.graph.attention_masks import is_causal
from seismograd.capture.graph.batch_sums import batch_sums
from seismograd.capture.graph.classification_inputs import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    ctc,
    kl_div,
    log_softmax,
    nll,
)
from seismograd.capture.graph.crossed_products import crossed_products
from seismograd.capture.graph.loss_graph import LossGraph
from seismograd.capture.graph.loss_operands import Fault
from seismograd.capture.graph.loss_reduction import NLL
from seismograd.capture.graph.reduced_focal_losses import reduced_focal_losses
from seismograd.capture.graph.regression_inputs import REGRESSION, broadcast
from seismograd.capture.graph.target_values import probabilities, signs
from seismograd.capture.graph.token_targets import token_targets
from seismograd.capture.graph.traversal import SAME_VALUES
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.names.parameter_table import ParameterTable
from seismograd.capture.source.loss_calls import loss_call
from seismograd.capture.source.reduced_products import reduced_product
from seismograd.capture.source.whole_sums import whole_sum
from seismograd.schema import FactKind, Site

MAX_OPERATIONS = 256  # nodes visited per loss

JOINING = SAME_VALUES | {  # nodes on the way from a loss function to the loss
    "AddBackward0",
    "AliasBackward0",
    "CatBackward0",
    "DivBackward0",
    "DivBackward1",
    "ExpandBackward0",
    "GatherBackward0",
    "IndexBackward0",
    "MaskedFillBackward0",
    "MaskedSelectBackward0",
    "MaximumBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "MulBackward0",
    "MulBackward1",
    "NegBackward0",
    "RsubBackward1",
    "SelectBackward0",
    "SliceBackward0",
    "SqrtBackward0",
    "SqueezeBackward0",
    "StackBackward0",
    "SubBackward0",
    "SumBackward0",
    "SumBackward1",
    "WhereBackward0",
}
# names of backward nodes that do what an operation does
FUNCTIONS = {  # what scripts call
    "bce": ("binary_cross_entropy", "BCELoss"),
    "bce_with_logits": ("binary_cross_entropy_with_logits", "BCEWithLogitsLoss"),
    "cosine_embedding": ("cosine_embedding_loss", "CosineEmbeddingLoss"),
    "cross_entropy": ("cross_entropy", "CrossEntropyLoss"),
    "ctc": ("ctc_loss", "CTCLoss"),
    "hinge_embedding": ("hinge_embedding_loss", "HingeEmbeddingLoss"),
    "huber": ("huber_loss", "HuberLoss"),
    "kl_div": ("kl_div", "KLDivLoss"),
    "l1": ("l1_loss", "L1Loss"),
    "mse": ("mse_loss", "MSELoss"),
    "nll": ("nll_loss", "NLLLoss"),
    "smooth_l1": ("smooth_l1_loss", "SmoothL1Loss"),
    "soft_margin": ("soft_margin_loss", "SoftMarginLoss"),
}
CTC = frozenset({"CtcLossBackward0", "CtcLossBackward1", "CudnnCtcLossBackward0"})
MODULES = {"softmax": ("Softmax",), "sigmoid": ("Sigmoid",)}


class LossInputs:
    """Inspects the losses that it is given, the first ones of each line of the script and later
    ones ever more rarely; reports each fault once.
    """

    def __init__(
        self, facts: Facts, parameter_table: ParameterTable, sites: Sequence[Site]
    ) -> None:
        self._facts, self._parameter_table, self._sites = facts, parameter_table, sites
        self._reported: set[tuple[int, str, str]] = set()

    def look(self, site: int, graph: LossGraph) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        for fault in (
            *faults_of(graph.tops),
            *misplaced(graph),
            *batch_sums(graph),
            *crossed_products(graph),
            *reduced_focal_losses(graph),
        ):
            key = (site, fault.loss, fault.input)
            if key not in self._reported:
                self._reported.add(key)
                modules = self._modules_called(MODULES.get(fault.input, ()))
                place, text = self._call_of(fault, site)
                self._facts.report(
                    FactKind.LOSS_INPUT,
                    site=site,
                    loss=fault.loss,
                    input=fault.input,
                    rows=fault.rows,
                    columns=fault.columns,
                    low=fault.low,
                    high=fault.high,
                    module=modules[0] if len(modules) == 1 else "",
                    place=place,
                    text=text,
                )

    def _modules_called(self, kinds: Sequence[str]) -> list[str]:
        """Return the names of the modules of these classes in the trained models, as a script would
        write them.
        """
        found: list[str] = []
        for module, prefix in self._parameter_table.models() if kinds else ():
            everything = cast("Iterator[tuple[str, torch.nn.Module]]", module.named_modules())
            found += [
                f"{prefix}{name}" for name, each in everything if type(each).__name__ in kinds
            ]
        return found

    def _call_of(self, fault: Fault, site: int) -> tuple[str, str]:
        """Return the line of the script that calls the loss function, and its text; of a sum over a
        batch that which sums, of a product that which reduces it.
        """
        if site < 0:
            return "", ""
        backward = self._sites[site]
        if fault.input == "batch sum":
            found = whole_sum(backward.file)
        elif fault.loss == "product":
            found = reduced_product(backward.file, backward.line)
        elif fault.loss not in FUNCTIONS:
            return "", ""
        else:
            found = loss_call(backward.file, backward.line, *FUNCTIONS[fault.loss])
        return ("", "") if found is None else (found.place, found.text)


def faults_of(tops: list[Any]) -> list[Fault]:
    """Return what is wrong with the inputs of the loss functions that these losses are made of.

    Reads the graph, and of the saved tensors only those at hand. Nothing of the model in front of
    the loss functions is inspected.
    """
    stack = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    found: list[Fault] = []
    while stack and len(seen) < MAX_OPERATIONS:
        node = stack.pop()
        name: str = node.name()
        found.extend(_faults_at(node, name))
        if name in JOINING:
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    stack.append(below)
    return list(dict.fromkeys(found))


def misplaced(graph: LossGraph) -> Iterator[Fault]:
    """Detect targets of a language model that are not the tokens that come next."""
    targets = token_targets(graph)
    if targets is None:
        return
    rows, columns = targets.tokens.shape
    if targets.offset == 2:
        yield Fault("cross_entropy", "tokens two ahead", rows, columns)
    elif targets.offset == 0 and is_causal(graph, targets):
        yield Fault("cross_entropy", "tokens of its input", rows, columns)


def _faults_at(node: Any, name: str) -> Iterator[Fault]:
    if name in NLL:
        yield from nll(node)
    elif name == "LogSoftmaxBackward0":
        yield from log_softmax(node)
    elif name == "BinaryCrossEntropyWithLogitsBackward0":
        yield from binary_cross_entropy_with_logits(node)
        yield from probabilities(node, "bce_with_logits")
    elif name == "BinaryCrossEntropyBackward0":
        yield from binary_cross_entropy(node)
        yield from probabilities(node, "bce")
    elif name in CTC:
        yield from ctc(node)
    elif name in ("SubBackward0", "MulBackward0"):
        yield from kl_div(node, name)
    yield from signs(node, name)
    if name in REGRESSION:
        yield from broadcast(node, name)
