"""Explain the mistakes with which parameters are frozen, or are not."""

from __future__ import annotations

from collections.abc import Sequence

from seismograd.analysis.mended_switch import mended_switch
from seismograd.analysis.script_names import holder_of, in_script, module_of
from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Values, say
from seismograd.schema import Fact, Parameter


def frozen_before(frozen: Sequence[Parameter], before: Sequence[Parameter]) -> Explanation:
    """What is frozen comes after layers that train."""
    return (
        say(
            "{first} is frozen, while {before}, which comes before it, trains: what {before} "
            "learns has to fit weights that never change",
            first=module_of(frozen),
            before=module_of(before),
        ),
        say(
            "unfreeze it and make sure that the optimizer holds it; if it is frozen on purpose, "
            "ignore this finding"
        ),
        f"{module_of(frozen)}.requires_grad_(True)  # before the optimizer is created",
    )


def trains_all_the_same(held: Sequence[Parameter]) -> Explanation:
    """A module was marked as frozen, which has no effect."""
    return (
        say(
            "`requires_grad = False` was set on a module that holds {first} "
            "({num} {num:parameter|parameters}); this has no effect on a module, so its parameters "
            "still train",
            first=held[0].name,
            num=len(held),
        ),
        say("call the method with the underscore: it sets requires_grad on each parameter"),
        f"{module_of(held)}.requires_grad_(False)  # instead of .requires_grad = False",
    )


def nothing_reads(fact: Fact) -> Explanation:
    """An attribute was set that nothing reads."""
    value, module = fact.text("value"), fact.text("name") or "model"
    model = fact.text("model") or "model"
    owner, held = in_script(module, model), in_script(holder_of(fact.parameters), model)
    values: Values = {
        "attribute": fact.text("attribute"),
        "value": value,
        "still": str(value != "True"),
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "module": module,
    }
    own = mended_switch(fact.text("text"), fact.text("on"))
    if fact.text("on") == "module":
        return (
            say(
                "`{attribute} = {value}` was set on the module {module}, where it has no effect: "
                "requires_grad of {first} is still {still} ({num} such "
                "{num:parameter|parameters})",
                **values,
            ),
            say("call the method with the underscore: it sets requires_grad on each parameter"),
            own or f"{owner}.requires_grad_({value})  # before the optimizer is created",
        )
    return (
        say(
            "`{attribute} = {value}` was set on {first}, but nothing reads this attribute: "
            "requires_grad is still {still} ({num} such {num:parameter|parameters})",
            **values,
        ),
        say(
            "the attribute is called requires_grad; with the method requires_grad_, a typo raises "
            "an error"
        ),
        own
        or f"{held}.requires_grad_({value})  # instead of .{values['attribute']}, before the "
        "optimizer is created",
    )


def new_is_frozen(fact: Fact) -> Explanation:
    """New layers are frozen as they were initialized."""
    values: Values = {
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "trains": fact.text("trains"),
    }
    cause = (
        say(
            "only normalization layers of the model train ({trains} and others), while {first} and "
            "all other weights are frozen as they were initialized ({num} such "
            "{num:weight|weights})",
            **values,
        )
        if fact.number("norms_only")
        else say(
            "{first} is frozen as it was initialized ({num} such {num:weight|weights}), while what "
            "trains, {trains} and others, is already trained: the output depends on random weights",
            **values,
        )
    )
    owner = in_script(fact.text("name"), fact.text("model") or "model")
    return (
        cause,
        say("unfreeze the new layers and give them to the optimizer; freeze the others"),
        f"{owner}.requires_grad_(True)  # before the optimizer is created",
    )


def adapters_are_frozen(fact: Fact, optimizer: str) -> Explanation:
    """Nothing of the adapters that an optimizer holds trains."""
    values: Values = {
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "optimizer": optimizer,
    }
    if fact.number("for_inference"):
        return (
            say(
                "the adapters that {optimizer} holds are frozen (parameters: {num}, first "
                "{first}): peft loads an adapter for inference unless it is told otherwise",
                **values,
            ),
            say(
                "pass is_trainable=True where the adapter is loaded; if it is frozen on purpose, "
                "give the optimizer only what trains"
            ),
            "model = PeftModel.from_pretrained(base_model, path, is_trainable=True)",
        )
    return (
        say(
            "the adapters that {optimizer} holds are frozen (parameters: {num}, first {first}) and "
            "never got a gradient",
            **values,
        ),
        say(
            "unfreeze the adapters and freeze the others; if they are frozen on purpose, give the "
            "optimizer only what trains"
        ),
        f"for name, parameter in {fact.text('model') or 'model'}.named_parameters():\n"
        '    if "lora_" in name:\n'
        "        parameter.requires_grad_(True)",
    )


def adapters_are_left_out(fact: Fact, trains: str) -> Explanation:
    """Nothing of the adapters trains, and an optimizer takes only what does."""
    values: Values = {
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "trains": trains,
    }
    if fact.number("for_inference"):
        return (
            say(
                "all adapters are frozen (parameters: {num}, first {first}), so only {trains} and "
                "what else requires a gradient trains: peft loads an adapter for inference unless "
                "it is told otherwise",
                **values,
            ),
            say("pass is_trainable=True where the adapter is loaded"),
            "model = PeftModel.from_pretrained(base_model, path, is_trainable=True)",
        )
    return (
        say(
            "all adapters are frozen (parameters: {num}, first {first}), so only {trains} and what "
            "else requires a gradient trains",
            **values,
        ),
        say("unfreeze the adapters before the optimizer is created, and freeze the others"),
        f"for name, parameter in {fact.text('model') or 'model'}.named_parameters():\n"
        '    if "lora_" in name:\n'
        "        parameter.requires_grad_(True)",
    )


def trunk_is_frozen(fact: Fact, begun: float, ended: float) -> Explanation:
    """Nearly all of a model is frozen as it was initialized, and it does not learn."""
    values: Values = {
        "first": fact.parameters[0],
        "num": int(fact.number("num")),
        "share": fact.number("share"),
        "trains": fact.text("trains"),
        "begun": begun,
        "ended": ended,
    }
    owner = in_script(holder_of(fact.parameters), fact.text("model") or "model")
    return (
        say(
            "{share:.0%} of the model is frozen as it was initialized ({first} and other weights, "
            "{num} in all), and nothing is learned (loss {begun:.4g} at first, {ended:.4g} at the "
            "end): what trains, {trains} and others, only gets random features",
            **values,
        ),
        say(
            "load the pretrained weights before you freeze them, or do not freeze them: look at "
            "the condition that chooses what is frozen, as a prefix like `encoder.` matches all "
            "that is below it"
        ),
        f"{owner}.requires_grad_(True)  # before the optimizer is created",
    )
