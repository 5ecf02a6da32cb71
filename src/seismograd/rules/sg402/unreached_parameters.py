"""Parameters that no gradient reaches, and the reasons that there may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.analysis.mended_term import with_graph, without_block
from seismograd.analysis.script_names import kind_among, models_of, module_of, name_among
from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Values, say
from seismograd.schema import Fact, Optimizer, Parameter

OWN_PART = re.compile(r"\bself\.(\w+)")


@dataclass(frozen=True, slots=True)
class UnreachedParameters:
    """What an optimizer holds, in order, and what of it never gets a gradient; `first_reached` is
    the position of the first that gets one.
    """

    optimizers: Sequence[Optimizer]
    known: Sequence[Parameter]
    optimizer: int
    held: Sequence[Parameter]
    without: Sequence[Parameter]
    first_reached: int
    detached: str = ""  # the only statement or block of the forward passes that cuts the graph
    function: str = ""  # the custom Function that returns no gradient for them
    graphless: str = ""  # the line of a loss without a graph
    estimator: Fact | None = None  # a straight-through estimator that takes them out of the graph

    @property
    def is_cut(self) -> bool:
        """Return whether the first parameters are without, so that the graph is cut after them."""
        return bool(self.without) and self.without[0] is self.held[0]

    @property
    def is_certain(self) -> bool:
        """Return whether it is known that the forward pass uses them, and what cuts them off."""
        return self.is_cut or bool(self.function) or self.estimator is not None

    def explanation(self) -> Explanation:
        """Return cause, advice and excerpt."""
        last = self.held[self.first_reached - 1] if self.is_cut else self.without[-1]
        reached = self.held[self.first_reached : self.first_reached + 1]
        values: Values = {
            "optimizer": name_among(self.optimizers, self.optimizer),
            "num": len(self.without),
            "held": len(self.held),
            "first": self.without[0].name,
            "last": last.name,
            "next": reached[0].name if reached else "",
            "module": module_of(self.without),
            "kind": kind_among(self.optimizers, self.optimizer) or "SGD",
            "model": next(iter(models_of(self.known, self.optimizer)), "model"),
            "function": self.function,
            "line": self.graphless,
        }
        if self.function:
            return _withheld(values)
        if self.estimator is not None:
            return _straight_through(self.estimator, values)
        if self.graphless and len(self.without) == len(self.held):
            return _graphless(joined(self.detached) if self.detached else "", values)
        return _words(
            self.is_cut,
            self._is_replaced(),
            self._is_behind_frozen(last),
            joined(self.detached) if self._is_by_detached() else "",
            values,
        )

    def _is_by_detached(self) -> bool:
        """Return whether what cuts the graph can be why these get no gradient: a block that uses
        parts of the model uses one that has some of them.
        """
        block = self.detached if self.detached.startswith("with ") else ""
        parts = set(OWN_PART.findall(block))
        return bool(self.detached) and (
            not parts or any(parts & set(each.name.split(".")) for each in self.without)
        )

    def _is_replaced(self) -> bool:
        """Return whether no module has these, while there are modules that are trained."""
        return all(p.root < 0 for p in self.without) and any(p.root >= 0 for p in self.known)

    def _is_behind_frozen(self, last: Parameter) -> bool:
        """Return whether the parameters of this model begin with frozen ones."""
        of_model = [p for p in self.known if p.root == last.root >= 0]
        return bool(of_model) and not of_model[0].trainable


def joined(statement: str) -> str:
    """Return a statement without what takes its value out of the graph; as a comment where nothing
    is left of it. Of a block, return its statements without the block.
    """
    if statement.startswith("with "):
        return without_block(statement)
    if statement.startswith("@"):
        return f"# {statement}"
    code = with_graph(statement)
    target, _, value = code.partition(" = ")
    return f"# {statement}" if not code or target == value else code


def _withheld(values: Values) -> Explanation:
    return (
        say(
            "{function}.backward returns None where the gradient of {first} is wanted, although "
            "the loss depends on it: {num} of the {held} {held:parameter|parameters} that "
            "{optimizer:the} holds {num:gets|get} no gradient for that reason",
            **values,
        ),
        say(
            "let {function}.backward return a gradient for each input for which "
            "ctx.needs_input_grad is true, whatever the others need; torch.autograd.gradcheck "
            "compares it with finite differences",
            **values,
        ),
        "torch.autograd.gradcheck(\n"
        f"    {values['function']}.apply, inputs)  # float64, each with requires_grad=True",
    )


def _straight_through(fact: Fact, values: Values) -> Explanation:
    values = {**values, **{name: fact.text(name) for name in ("passes", "blocked")}}
    return (
        say(
            "no gradient reaches {num} of the {held} {held:parameter|parameters} that "
            "{optimizer:the} holds (the first is {first}): {module} computes {blocked}, and the "
            "straight-through estimator at {line} passes the gradient of its result on to {passes} "
            "and nothing to {blocked}",
            **{**values, "line": fact.where},
        ),
        say(
            "compute the loss of {module} from {blocked} itself, before the estimator, and not "
            "from the result of the estimator",
            **values,
        ),
        f"loss = loss + F.mse_loss({values['blocked']}, {values['passes']}.detach())",
    )


def _graphless(mended: str, values: Values) -> Explanation:
    return (
        say(
            "none of the parameters that {optimizer:the} holds ({held}) ever gets a gradient: the "
            "loss that is backpropagated at {line} has no graph, and requires a gradient only "
            "because requires_grad was set on it, which hides the error and connects it to nothing",
            **values,
        ),
        say(
            "do not set requires_grad on the loss; between the output of the model and the loss, "
            "look for what cuts the graph: a comparison, argmax, round, .item(), .detach(), "
            ".numpy(), torch.tensor(…) or no_grad",
            **values,
        ),
        mended or "assert loss.grad_fn is not None",
    )


def _words(
    is_cut: bool, is_replaced: bool, is_behind_frozen: bool, mended: str, values: Values
) -> Explanation:
    if is_replaced:
        return (
            say(
                "{optimizer:the} holds tensors that never get a gradient and that no module has "
                "(the first is {first}; {num} of {held}): the modules that had them were replaced "
                "after {optimizer:the} was created, or the forward pass uses copies of them",
                **values,
            ),
            say(
                "create {optimizer:the} after the last change to the model: moving tensors to "
                "another device, a new head, resize_token_embeddings, load_state_dict with "
                "assign=True",
                **values,
            ),
            f"{values['optimizer']} = torch.optim.{values['kind']}({values['model']}.parameters(), "
            "lr=…)  # after that",
        )
    if is_cut and values["next"]:
        return (
            say(
                "no gradient reaches {num} of the {held} {held:parameter|parameters} that "
                "{optimizer:the} holds ({first} to {last}), while {next} gets one: the graph is "
                "cut between {last} and {next}, or the forward pass does not use them",
                **values,
            ),
            say(
                "with gradient checkpointing, call {model}.enable_input_require_grads() or pass "
                "use_reentrant=False: a reentrant checkpoint whose input needs no gradient, as "
                "behind frozen layers, cuts the graph; otherwise check the forward pass between "
                "{last} and {next} for detach, .data or no_grad",
                **values,
            )
            if is_behind_frozen
            else say(
                "check the forward pass between {last} and {next} for detach, .data, no_grad or an "
                "operation without a derivative",
                **values,
            ),
            f"{values['model']}.enable_input_require_grads()" if is_behind_frozen else mended,
        )
    if is_cut:
        return (
            say(
                "none of the parameters that {optimizer:the} holds ({held}) ever gets a gradient: "
                "the losses do not depend on them",
                **values,
            ),
            say(
                "make sure that the loss is computed from the output of the model whose parameters "
                "{optimizer:the} holds, and not from a detached copy",
                **values,
            ),
            mended or "print(loss.grad_fn)",
        )
    return (
        say(
            "no gradient reaches {num} of the {held} {held:parameter|parameters} that "
            "{optimizer:the} holds (the first is {first}): the forward pass does not use them, or "
            "cuts them off from the loss",
            **values,
        ),
        say(
            "if the forward pass uses {module}, look for what takes its result out of the graph "
            "before the loss: detach, .data, no_grad, an operation without a derivative; "
            "otherwise use it, or remove it",
            **values,
        ),
        mended,
    )
