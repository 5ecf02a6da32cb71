"""What is said of parameters that get gradients and belong to no optimizer, case by case."""

from __future__ import annotations

from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Values, say

LEFT_OUT, UNREGISTERED, OTHER_MODEL, JUDGES, REPLACED, FOLLOWS, REFERENCE = range(7)
HARMLESS = (JUDGES, FOLLOWS, REFERENCE)


def copied(values: Values) -> Explanation:
    """Return cause, advice and excerpt of parameters of which each backward reaches new copies."""
    return (
        say(
            "each backward reaches new copies of the parameters that {optimizer:the} holds "
            "({held}), and never these themselves: a copy, as copy.deepcopy makes it, is "
            "connected to the original by no graph, so what is learned goes with it",
            **values,
        ),
        say(
            "keep {optimizer:the} as it is; leave out the copy, or where steps within the step "
            "need other weights, compute them from the original ones (p - lr * g, with "
            "create_graph=True) and pass them to torch.func.functional_call",
            **values,
        ),
        "weights = dict(model.named_parameters())\n"
        "weights = {name: p - lr * g for (name, p), g in zip(weights.items(), grads)}\n"
        "output = torch.func.functional_call(model, weights, (x,))",
    )


def nameless(values: Values) -> Explanation:
    """Return cause, advice and excerpt of one that only what is computed from it shows."""
    return (
        say(
            "a leaf of shape {shape} ({first}) gets gradients but is never updated (parameters "
            "like this: {num}): it is an nn.Parameter that no module registers, so "
            "`parameters()` leaves it out and {optimizer:the} does not hold it; this happens "
            "where an nn.Parameter is computed with (nn.Parameter(…) * scale) or moved (.to) "
            "before a module gets it, because the result is a plain tensor",
            **values,
        ),
        say(
            "compute inside nn.Parameter(…), so that the parameter itself is the attribute of the "
            "module, before the optimizer is created"
        ),
        "self.weight = nn.Parameter(torch.randn(shape) * scale)",
    )


def replaced_later(values: Values) -> Explanation:
    """Return cause, advice and excerpt of those that took the place of others meanwhile."""
    return (
        say(
            "{first} gets a gradient at each step, but {optimizer:the} does not hold it "
            "(trainable parameters like this: {num}); instead {optimizer:the} holds tensors that "
            "no module has any more ({gone}) and that got their last gradient at step {last}: the "
            "module was replaced during the training, after {optimizer:the} was created",
            **values,
        ),
        say(
            "add the new parameters to {optimizer:the} when the module is replaced, or create a "
            "new optimizer then",
            **values,
        ),
        f'{values["optimizer"]}.add_param_group({{"params": {values["parameters"]}}})  '
        "# right after the replacement",
    )


def copy_of_trained(kind: int, values: Values) -> Explanation:
    """Return cause, advice and excerpt of a copy of what is trained: one that follows it, or one
    that stays as it was.
    """
    advice = say(
        "call the copy under torch.no_grad(), or freeze it once; copying the weights still works, "
        "and computing and keeping these gradients costs nothing any more"
    )
    code = f"{values['module']}.requires_grad_(False)  # once, before the loop"
    if kind == FOLLOWS:
        cause = say(
            "{first} gets gradients that nothing uses (parameters like this: {num}): it is a copy "
            "of {of}, and takes its weights from there again and again, as a target network, an "
            "average or an old policy does",
            **values,
        )
        return cause, advice, code
    cause = say(
        "{first} gets gradients that nothing uses (parameters like this: {num}): it belongs to a "
        "separate model that began as a copy of {of} and has kept its weights, as a reference "
        "model does",
        **values,
    )
    advice = say(
        "freeze it, or call it under torch.no_grad(), which saves computing and keeping these "
        "gradients; if it should train, give its parameters to the optimizer"
    )
    return cause, advice, code


def explanation(kind: int, values: Values) -> Explanation:
    """Return cause, advice and excerpt of one of the other cases."""
    optimizer = values["optimizer"]
    if kind == UNREGISTERED:
        return (
            say(
                "{first} gets gradients but is never updated (parameters like this: {num}): the "
                "module does not register what the plain list or dict `{list}` contains, so "
                "`parameters()` leaves it out and {optimizer:the} does not hold it",
                **values,
            ),
            say(
                "put the layers in nn.ModuleList (or nn.ModuleDict) before the optimizer is "
                "created",
                **values,
            ),
            f"self.{values['list']} = nn.ModuleList(self.{values['list']})  # a dict: "
            "nn.ModuleDict",
        )
    if kind == OTHER_MODEL:
        return (
            say(
                "{optimizer:the} does not hold the parameters that get gradients ({num}, first "
                "{first}), and the parameters it holds ({held}) never get any: it was created for "
                "another model, or before the model was replaced",
                **values,
            ),
            say(
                "create the optimizer after the model that is trained, from the parameters of that "
                "model"
            ),
            f"{optimizer} = torch.optim.{values['kind']}({values['module']}.parameters(), lr=…)  "
            "# after the last change to the model",
        )
    if kind == REPLACED:
        return (
            say(
                "{first} gets a gradient at each step, but {optimizer:the} does not hold it "
                "(trainable parameters like this: {num}); instead {optimizer:the} holds tensors "
                "that no module uses any more ({gone}): the module was replaced after the "
                "optimizer was created",
                **values,
            ),
            say(
                "create the optimizer after the last change to the model (a new head, "
                "resize_token_embeddings, load_state_dict with assign=True), or add the new "
                "parameters to it",
                **values,
            ),
            f'{optimizer}.add_param_group({{"params": {values["parameters"]}}})  '
            "# once, before the loop",
        )
    if kind == JUDGES:
        return (
            say(
                "{first} gets gradients that no optimizer uses (parameters like this: {num}); it "
                "comes after all parameters that {optimizer:the} trains, so it seems to belong to "
                "a network that only evaluates outputs",
                **values,
            ),
            say(
                "freeze this network, which saves the time to compute these gradients; if it "
                "should train (a decoder, a head), give its parameters to {optimizer:the}",
                **values,
            ),
            f"{values['module']}.requires_grad_(False)",
        )
    return (
        say(
            "{first} gets a gradient at each step, but no optimizer holds it (trainable parameters "
            "like this: {num}): the weights have not changed, while {optimizer:the} updates other "
            "parameters ({held})",
            **values,
        ),
        say(
            "give these parameters to the optimizer, or freeze them with requires_grad_(False) if "
            "they should not be trained"
        ),
        f'{optimizer}.add_param_group({{"params": {values["parameters"]}}})  '
        "# once, before the loop",
    )
