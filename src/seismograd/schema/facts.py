"""Facts: what watching knows for certain and what is neither a number of every step nor a call,
such as what a loss's graph is made of.

A fact is reported when it is new or has changed, never at every step, so that a run has few of
them; whatever reports them bounds their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import nan


class FactKind(StrEnum):
    """The subject of a fact. Each kind defines its `values`; a run says which kinds were looked
    for.
    """

    LOSS_INPUT = "loss_input"
    """What a loss function was given. `loss`: its name; `input`: what made its input (`softmax`,
    `sigmoid`, …), or `targets` where these do not suit it, from `low` to `high`; `rows`, `columns`;
    with `input` `batch sum`: the mean over `rows` samples of numbers to which a sum over `columns`
    of all samples was added; `place`, `text`: the line of the script that calls it, or sums, and
    the statement there, where there is only one. With `loss` `product`: no loss function, but
    numbers of `rows` samples times constants; `low`: 1 where the constants are the column. With
    `input` `reduced focal`: the loss, reduced over `rows` samples, is multiplied by a power of one
    minus its own negative exponential.
    """
    FIRST_LOSS = "first_loss"
    """The first two losses of a line that are a cross entropy over `classes`, as long as no weights
    were loaded. `loss`: its mean over the samples, without weights of classes; `spread`: the
    standard deviation of the logits of a sample. `parameters`: the weight of the last layer, `head`
    the root mean square of it and `fan_in` what it sums over, `features` that of what goes into it;
    `inputs` that of what goes into the first of the `layers`; `tied`: 1 where an embedding looks up
    rows of the last layer's weight.
    """
    ZERO_GRADIENT = "zero_gradient"
    """Why no gradient reaches these parameters, told after steps whose gradients were zero.
    `cause`: a `ZeroCause`; `operation`: what does it, such as `round`; `weight`: the name of the
    weight of zeros; `num`: how many parameters there are; `last_size`: of a softmax over another
    dimension than the last, how many elements the last one has. Of a normalization over one number,
    told at the first backwards of a line, whatever the gradients: `times`: how often it was seen;
    `norms`: how many there are; `name` of its module, `model`: the script's name for the outermost
    one; `groups`, `channels` of a group normalization, else 0. Of a value that is divided by its
    own `operation` (`sum`, `norm`, `maximum`) over one element, told likewise: `times`; `others`: 1
    when other terms of the loss reach the parameters; `place`, `text`: the line that divides, and
    the statement there, where there is only one.
    """
    SELF_RATIO = "self_ratio"
    """The loss holds a ratio of two log-probabilities that both have a graph behind which there are
    the same `parameters`, `num` of them, and all of its numbers are one, told at the first
    backwards of a line and ever more rarely. `times`: how often that was so, each time after other
    steps; `ratio`: the line of the only statement that computes one; `place`, `text`: that one, or,
    where `is_alias` is 1, the only statement that makes its old policy another name of something.
    """
    SELF_REFERENCE = "self_reference"
    """A loss compares what has a graph with what has none, and the difference is exactly zero, told
    at the first backwards of a line and ever more rarely, until it is not. `operation` that is
    given it, such as `logsigmoid`; `times`: how often that was so, each time after other steps;
    `adapted`: the script's name of a model whose adapters can be disabled, if any; `place`, `text`:
    the only statement that computes something without gradients, and its line.
    """
    CONSTANT_TERM = "constant_term"
    """What a loss holds that has no graph, told at the first backwards of a line and ever more
    rarely: `constant`, NaN where it is not known, and the `loss`; where it is zero, the `name` of a
    variable with a loss of zero that has no graph, if the function that calls backward computes
    one; `place`, `text`: the line that takes it out of the graph, and the statement or the block
    there, where there is only one.
    """
    ROUNDED_TERM = "rounded_term"
    """A term of a loss reaches its `parameters`, `num` of them, only through an `operation` whose
    derivative is zero everywhere, such as `round`, while other terms reach all of them, told at the
    first backwards of a line and ever more rarely. `place`, `text`: the line that rounds, and the
    statement there, where there is only one.
    """
    FIRST_ORDER_TERM = "first_order_term"
    """A loss whose graph begins at something that is no parameter, as at the coordinates of a
    differential equation, adds the result of `torch.autograd.grad` without `create_graph=True` to
    what has a graph, told at the first backwards of a line and ever more rarely: `times`; `place`,
    `text`: the line of the call, and the statement there.
    """
    EPOCHS = "epochs"
    """At the end: how often the DataLoader of the training was iterated (`epochs`), and the
    backwards in the longest of these (`per_epoch`).
    """
    ATTENTION_MASK = "attention_mask"
    """Attention in front of a loss is masked the wrong way. `fault`: `not causal` where each
    position sees the next token, which is its target, `padding only` where all that is seen is the
    padding; `place`, `text`: the line of the script that computes it, and the statement there,
    where there is only one.
    """
    RECURRENCE_AXIS = "recurrence_axis"
    """A recurrent layer runs over the samples of a batch: `layer` (its class) and `name`;
    `batch_first` as it was made; it ran over `steps` of `sequences`. `selected`: 1 where only one
    of these is used, 0 where the targets of a language model lie along them. `place`, `text`: the
    line that makes the layer, and the statement there, where there is only one.
    """
    MIXED_SAMPLES = "mixed_samples"
    """A view makes rows of `samples` out of a stack of `depth` parts, each of `samples` with
    `features`, without moving its numbers. `layer`, `name`: the class and the name of the recurrent
    layer whose state it is, empty where it is none; `place`, `text`: the line of the view, and the
    statement there, where there is only one.
    """
    FIRST_RATIO = "first_ratio"
    """At the first backward of a line, before any step, a ratio of a policy with the one that has
    acted, which is clipped around one. `share` of its numbers that are not one; `least`, `most` of
    them; `parameters`, `num` of them; `place`, `text`: the line of the ratio, and the statement
    there, where there is only one.
    """
    LOST_ADDITIONS = "lost_additions"
    """Sums are written to places that an index names several times, without being accumulated.
    `num` of them, `lost` of these, both of the first ones where there are very many; `parameters`
    that get a gradient through them; `place`, `text`: the line that adds, and the statement there,
    where there is only one.
    """
    UNDETACHED_ADVANTAGE = "undetached_advantage"
    """The log-probability of actions is multiplied by an advantage with a graph, in one loss with
    the regression of the values in it. `parameters` that get a gradient through it; `place`,
    `text`: the line of the product, and the statement there, where there is only one.
    """
    UNDETACHED_TARGET = "undetached_target"
    """A regression compares a prediction with a target that is bootstrapped from the same network
    and has a graph: `discount` of its value, and the `parameters` that get a gradient through it;
    `place`, `text`: the line that computes the target, and the statement there, where there is only
    one.
    """
    DETACHED_STATE = "detached_state"
    """Recurrent weights, the `parameters`, are multiplied at each of several `steps` by the state
    of the step before, which comes without the graph that it has elsewhere; `place`, `text`: the
    line in a loop that detaches something, and the statement there, where there is only one.
    """
    LEFT_OUT = "left_out"
    """The graph of a loss does not have `parameters` of `optimizer`, which one before had, and they
    get no gradient.
    """
    SAMPLE_CUT = "sample_cut"
    """`sample()` of a distribution whose parameters have a graph, and its result goes into a
    network in front of the loss, which therefore gives `parameters` of `optimizer` no gradient
    through it; the line is that of `sample()`, `text` its statement. `distribution`: its class;
    `discarded`: 1 where what it goes into reaches no parameter that the loss is for, 0 where
    nothing but a divergence or an entropy trains the distribution. Or, where `score` is 1, the loss
    of `parameters` has only the log-probability of the sample, times a single number, told at the
    first backwards of a line and ever more rarely: `times`.
    """
    QUANTIZED_CUT = "quantized_cut"
    """A loss goes through vectors that were looked up in a codebook, and reaches none of
    `parameters`, which chose the vectors: only a regression compares these with them. Told once for
    each line; `text` is the statement that looks them up, at `place`, or empty.
    """
    ROUTER_CUT = "router_cut"
    """The probabilities that a layer gives by a softmax reach a loss only by their mean over the
    samples, and nothing else reaches its `parameters`, while the loss has others, told at the first
    backwards of a line and ever more rarely: `times`; `place`, `text`: the line that chooses by
    them, and the statement there, where there is only one.
    """
    SUMMED_LOSS = "summed_loss"
    """A loss is the sum of several `terms` with a graph, told at the first backward of its line."""
    TERM_SIZES = "term_sizes"
    """How large the terms are that a loss is the sum of, told at the first backwards of its line
    and ever more rarely: `terms` with a graph, the `largest` and the next one by their sizes,
    `next`; `of_largest`, `of_next`: the functions that they are results of.
    """
    MIXED_REDUCTIONS = "mixed_reductions"
    """A loss adds a mean over `mean` numbers and a sum over `summed` numbers of the same `samples`,
    told at the first backwards of a line and ever more rarely: `times` is how often a number in the
    sum counts what one in the mean does; `place`, `text`: the line of the script that sums up, and
    the statement there, where there is only one.
    """
    LOSS_WEIGHT = "loss_weight"
    """A whole term of a loss is multiplied by a positive function of a parameter, which no loss has
    in another way, told at the first backwards of a line and ever more rarely. `parameters`: this
    one; `weight`: the largest number that a term is multiplied by; `least` of these terms; `times`:
    how often it was so; `place`, `text`: the line of the product, and the statement there, where
    there is only one.
    """
    POSTERIOR = "posterior"
    """A loss adds the divergence of a normal distribution from the standard one, summed over
    `latents`, and a mean over `mean` numbers of the same `samples`, told at the first backwards of
    a line and ever more rarely. `divergence` of a sample, on average; `times`: how often a number
    in it counts what one in the mean does; `function` that takes the mean; `place`, `text`: the
    line that calls it, and the statement there, where there is only one.
    """
    HOOK_FACTOR = "hook_factor"
    """Hooks on all parameters of an optimizer multiply their gradients, told at the first backwards
    and ever more rarely: `factor`, and `num` parameters that it was measured for.
    """
    PILED_HOOKS = "piled_hooks"
    """Parameters of an optimizer have several hooks that run the same code, told likewise: `hooks`
    on each, the `factor` by which all its hooks multiply its gradient, and `num` parameters. The
    line is that of the hook's code.
    """
    HANDED_GRADIENTS = "handed_gradients"
    """A step uses gradients that are those of other `parameters`, the same tensors, and that hold
    what an earlier step has used, told at the first of these steps and ever more rarely. `times`:
    how many there were; `num` of those parameters, `model`: the script's name for theirs; `name`
    of the optimizer.
    """
    GRADIENT_ALIAS = "gradient_alias"
    """The state of an optimizer that is not torch's own holds the gradients themselves, told at the
    first steps that begin so. `parameters` whose state does; `name` of the optimizer; `entry` of
    the state; `times`: at how many looks in a row it was so.
    """
    RESEEDED = "reseeded"
    """Before each step of an optimizer the seed of torch's random numbers was set to the same
    `seed`, and numbers were drawn from there, told at the first looks that show it and ever more
    rarely: `times`, in a row, `since` which iteration. The line is that of the script's own code
    that sets it, or calls what is there for that; `text` the statement there.
    """
    JUDGED_OUTPUT = "judged_output"
    """A loss only pushes the output of a network up or down, the last layer of which has the bias
    in `parameters`, held by `optimizer`: told once for each line and optimizer, where there are
    several.
    """
    REVERSAL = "reversal"
    """An autograd Function whose name, `function`, says that it reverses a gradient has passed it
    on multiplied by `factor`, which is positive, told at the first backwards and ever more rarely:
    `times`. The line is that of its backward; `place`, `text`: what that returns.
    """
    NEVER_STEPPED = "never_stepped"
    """At the end: backwards that no step used. `backwards`: how many; `held_by`: `optimizer` (of
    the fact), or `nobody` when no optimizer holds what they reach; `name`: of the optimizer; `num`:
    parameters; `stepped`: the optimizers that did step.
    """
    SWITCH = "switch"
    """An attribute was set that nothing reads: `requires_grad` on a module, or one like it on a
    parameter or module. `attribute`; `value`: `True` or `False`; `on`: `module` or `parameter`;
    `name` of the module; `num` parameters that are not as it says; `model`: the script's name for
    theirs; `place` and `text` of the statement that sets it, where there is only one.
    """
    SCHEDULE = "schedule"
    """What is known of a learning rate scheduler, told at its first step, whenever it has been
    stepped twice as often, and at the end. `number`: which; `scheduler`: its class; `calls` of its
    step; `steps`, `backwards`: how many there were by then, steps of its optimizer; `length`: how
    many calls it is made for, `periodic` (1: it comes back after that); `lr`, `highest`: the
    highest rate of any group, now and ever; `zero_since`, `low_since`: the call after which `lr`
    was 0, or under a ten-thousandth of `highest`, ever since, -1 if it is not, with
    `zero_iteration`, `low_iteration`; `epochs`, `per_epoch`, `batch_size` as a DataLoader shows
    them, NaN where none does; `world`: processes; `others`: the optimizers that step on the same
    parameters while its own never does; `before`: calls of one whose state it was given; `name`: of
    its optimizer; `base`: the rate that the function of a LambdaLR is multiplied by, else NaN;
    `top`, `top_call`: the highest rate that it has set, and the first call by which it had; with
    `calls` 0, at the end: one that set the rate to 0 when it was created and was never stepped;
    `text`, `step_text`: the statements that step it and its optimizer; `created`,
    `creation`: the line that creates it, and the statement there; `interval_at`, `interval`: those
    of the only statement that tells a framework how often to step; `ended`: 1 at the end. Where its
    optimizer, which was stepped before, has made no step between its last `idle` calls, the first
    of which found a rate of `idle_lr`: `successor`, `successor_index`, `successor_steps`: an
    optimizer without a scheduler that has stepped on the same parameters since.
    """
    SCHEDULE_REMADE = "schedule_remade"
    """A scheduler takes the place of one of the same class over the same optimizer, which was
    stepped at the same line. `scheduler`; `made`: how many there were; `calls` of the one before.
    """
    PLATEAU = "plateau"
    """What a ReduceLROnPlateau was given, told as a SCHEDULE is. `number`; `mode`; `calls`;
    `first`, `last`, `lowest`, `highest` of its metric; `falls`, `rises`: how often it fell and rose
    from call to call; `reductions`; `lr`; `ended`.
    """
    OPTIMIZER_REMADE = "optimizer_remade"
    """An optimizer takes the place of one of the same class over the same parameters that is gone,
    told at the first ones and ever more rarely. `name`, `class_name`; `made`: how many there were;
    `life`: the steps that each made, on average; `place`, `text`: the line that creates them, and
    the statement there; `remembers`: 0 of one that keeps nothing between steps.
    """
    OPTIMIZER_CREATED = "optimizer_created"
    """Where the script creates an optimizer and where its learning rate stands, told at its first
    step. `class_name`; `lr` that its first group began with; `place`, `text`: the line, and the
    statement there, where there is only one; `call`, `argument`: which call in it is given the
    learning rate, and the argument's name there; `setter`, `set_at`: the only statement in the
    function of the step, or in those that it calls, that writes `["lr"]` of a group, and its line.
    """
    SCALER_REMADE = "scaler_remade"
    """A GradScaler takes the place of another one, told likewise. `made`; `steps` with all of them,
    of which `skipped` were left out; `scale`: that with which the new one begins; `place`, `text`
    as for optimizers.
    """
    IN_TWO_OPTIMIZERS = "in_two_optimizers"
    """An optimizer steps on gradients on which another one has stepped since they last changed,
    told likewise. `parameters` are those that both hold; `first`, `second`: their names; `times`:
    how often it was so.
    """
    GROUP_SETTINGS = "group_settings"
    """What the settings of a parameter group are now, told when they are new or have changed.
    `group`; `class_name` of the optimizer; `weight_decay`, `momentum`, `eps`, `beta1`, `beta2`: NaN
    where it has none; `decoupled` (1: the decay is no part of the gradient); `fused`.
    """
    WEIGHTS_OVERWRITTEN = "weights_overwritten"
    """Between two steps of an optimizer its weights went back, by something that is no step, told
    likewise. `parameters`: those that were looked at; `name` of the optimizer; `times`; `undone`:
    the part of the way since the last time, of `steps` steps, that it took back, 1 for all of it;
    `same`: 1 when the weights are exactly those of the last time; `loaded`: 1 when the line is that
    of a `load_state_dict`, whose statement is `text`.
    """
    KEPT_PERTURBATION = "kept_perturbation"
    """Between the first backward of a step and the step itself, something moved weights up the
    gradient of that backward, and did not take it back, told at the first looks that show it and
    ever more rarely. `parameters`: the weights that were looked at and moved; `name` of the
    optimizer; `times`: at how many looks in a row it was so; `length` of the way, the same each
    time; the line is that of the step, `text` its statement.
    """
    COPIED_WEIGHTS = "copied_weights"
    """Trainable weights that no optimizer holds, or that get no gradient, began with the scalars
    of trained ones, told when they are first looked at, and likewise when they have been set to
    these, or nearer to them.
    `parameters`: these weights and what lies beside them; `of`: the first of the trained ones;
    `times`: how often they were found nearer to them than before.
    """
    STALE_COPY = "stale_copy"
    """A network that nothing trains, built like one that is trained, does not follow it, told at
    the first backwards and ever more rarely. `name`, `of`: the script's names for both, or their
    classes; `times`: at how many looks in a row it was so; `since`: the iteration of the first one.
    Where `share` is 0, it is exactly as it was then, and `statement` says what is meant to change
    it and does not (`update`, `entry`, `dict`, `variable`, `result`), with its `target`, `place`
    and `text`; or, with `statement` `buffers`, its weights follow, by the statement at `place`, and
    its batch normalization, such as `target`, has the running averages that it was made with. Else
    this share of its numbers that stand far from those of the other network, in steps of its
    `dtype`, are exactly as they were at the last look, while updates of the others arrive; `place`,
    `text`: the only statement in a loop that moves them, where there is one.
    """
    TARGET_LOADED = "target_loaded"
    """`load_state_dict` of a network that no optimizer trains, such as a target network, told at
    the first times, when the distance changes, and ever more rarely. `every`: iterations since the
    last time, -1 at the first; `times`.
    """
    LOADED_ITSELF = "loaded_itself"
    """`load_state_dict` of a trained model, after its first step, is given the parameters
    themselves, told once. `parameters`, `num` of them; `model`: what the script calls it;
    `kept_at`, `kept`: the line that has kept them, and the statement there.
    """
    ACTION_VALUES = "action_values"
    """The loss is a regression of action values, as of Q-learning: of what indices choose from a
    network's outputs, one for each sample. Told once for each line.
    """
    LOSS_DOUBTFUL = "loss_doubtful"
    """The recorded loss of the steps of `optimizer` does not tell how its training goes; told once
    for each `reason`, a `LossDoubt`.
    """
    RATE_LOADED = "rate_loaded"
    """`Optimizer.load_state_dict` has replaced the learning rate that the optimizer was made with,
    told at its next step. `group`; `name`, `class_name` of the optimizer; `given`, `loaded`: the
    rates before and after.
    """
    SCHEDULE_NOT_LOADED = "schedule_not_loaded"
    """A scheduler begins at its beginning over an optimizer whose state was loaded and that another
    scheduler had brought from one rate to another. `scheduler`; `initial`: the rate with which that
    one began; `loaded`: the rate that it had come to.
    """
    FROZEN_FRESH = "frozen_fresh"
    """A model whose only weights that look as an initialization leaves them are frozen, told at its
    first backward. `parameters`: these, `num` of them; `name` of the module that has the last of
    them, `model`: the script's name for the outermost one; `trains`: one that trains; `norms_only`:
    1 when only normalization layers do.
    """
    FROZEN_TRUNK = "frozen_trunk"
    """Half of a model or more is frozen, and as an initialization leaves it, told at its first
    backward. `parameters`: the first of these weights, `num` of them; `share` of all scalars that
    are frozen; `trains`: the first parameter that trains; `model`: the script's name for the
    outermost module.
    """
    FROZEN_ADAPTERS = "frozen_adapters"
    """A model has adapters, such as LoRA's, and none of their parameters trains, told at its first
    backward. `parameters`: the first of these, `num` of them; `for_inference`: 1 when peft has
    loaded them for that; `certain`: 0 where only a common name such as `adapter` tells; `model`:
    the script's name for the outermost module.
    """
    LEFT_IN_EVAL = "left_in_eval"
    """A model that was trained in train mode is in eval mode at a backward, told at the first one
    and ever more rarely, and once more (`back`: 1) when it is in train mode again. `model`: its
    name; `norms`, `dropouts`: how many layers of it that is different for; `times`: backwards in a
    row that were looked at; `text`: the call that puts it in eval mode, as the script writes it.
    """
    SYMMETRIC = "symmetric"
    """All rows of a weight are equal, and so are those of its gradient, which is not zero; told
    twice at most. `parameters`: such weights; `rows` of the first; `equal`: the names of all
    weights whose rows are equal, with commas between; `model`: the script's name for theirs.
    """
    DETACHED = "detached"
    """Some of what an optimizer holds has no gradient at one of its first steps, and only one
    statement of the forward passes takes something out of the graph: `text`, or a block of
    `torch.no_grad()`, written as one line. Or a straight-through estimator takes what `parameters`
    compute out of the graph: the gradient of its result goes to the variable `passes`, and none to
    `blocked`.
    """
    GRADIENT_WITHHELD = "gradient_withheld"
    """The backward of a custom autograd Function returned no gradient for an input that requires
    one, and `parameters` behind it, which an optimizer holds, have none. `function`: its class; the
    line is that of its backward.
    """
    FUNCTION_FLAT = "function_flat"
    """After a step with an all-zero gradient: the backward of a custom autograd Function returned
    only zeros for a gradient that is not zero, and `parameters` behind it, `num` of them, are
    reached by no other way, told at the first such backwards and ever more rarely. `function`: its
    class; the line is that of its backward.
    """
    LOSS_WITHOUT_GRAPH = "loss_without_graph"
    """A loss is backpropagated that has no graph and requires a gradient itself, told at the first
    ones of a line and ever more rarely. `times`: how often it was so.
    """
    LARGE_EXPONENTIAL = "large_exponential"
    """One of the first losses that are very large and finite holds an exponential that explains it.
    `operation`: `exp`, `exp2` or `expm1`; `largest` of its results; `loss`. `parameters`: the
    weight nearest to what goes into it, if any.
    """
    THROUGH_TIME = "through_time"
    """The gradient on its way back through an unrolled recurrence, at a few of the first backwards.
    `parameters`: the weight that is used at each of `steps` steps; `first`, `last`: the norm of the
    gradient that reaches its product at the first step of the sequence and at the last; `gain`: by
    how much each step multiplies it, and `total` all of them, by a line through the logarithms with
    an R² of `goodness`.
    """
    PARAMETER_REMADE = "parameter_remade"
    """At several backwards the graph held parameters that no optimizer has, of the same shapes each
    time and each time others, those of before being gone: they are made in the forward pass.
    `num`; `shape` of the first; `times`: at how many backwards in a row that were looked at;
    `made`: the line that made the first, where a module registered it; `copies`: 1 when they have
    the shapes of all that optimizers hold, of which the graph has none.
    """
    OWNERSHIP = "ownership"
    """Which of several processes hold the same parameters, told by rank 0 when it is known and when
    that changes. `parameters`: those that began with the same weights everywhere and are not kept
    the same though others are; `same`: how many all are known to hold the same of; `separate`: of
    how many they hold different ones, experts or shards; `local`: whose gradients are not reduced
    though their weights stay the same; `unsynced` (1: all differ, and nothing is exchanged);
    `ambiguous` (1: all differ, and activations are exchanged); `began_alike` (1: all weights did).
    """
    CLIP_LEAVES_OUT = "clip_leaves_out"
    """Which parameters with a gradient the clips by norm of an optimizer's step did not cover, told
    when that is new or changes, none (again) included. `parameters`; `num` of them; `held` by the
    optimizer.
    """
    REDUCED_AFTER_CLIP = "reduced_after_clip"
    """Gradients were reduced over processes by hand after they were clipped, told at the first ones
    and ever more rarely. `norm` that the clip found, its `limit`; `times`: how often it was so.
    """
    BIRTH = "birth"
    """Where the first number of a loss or a gradient arose that is not finite, of the first few
    that there are. `of`: `loss` or `gradient`; `phase`: `forward`, `backward` or `update`;
    `operation` as a script writes it; `reason`: a `BirthReason`; `operand`: the name of the
    parameter, or which operand it was; `shape`, `dtype` of what was given to the operation;
    `num` of its `numel` scalars are at fault; `module`: its path; `samples`: the rows of the batch
    at fault, the first of them, as `7 19 40`; `num_samples` of `batch`, NaN where a row is no
    sample; `made_by`: what computes the operand at fault, and the operand of that, as `rsub
    sigmoid`; `text`: the line of the script, `where` it is known; `logits`: what `logsigmoid` would
    be given in place of its logarithm, empty where it is none; `stage`: `graph` or `replay`;
    `without_replay`: why there was none.
    """
    GUARDED = "guarded"
    """The guard left out an update. `reason`: `nonfinite` or `exploded`; `norm` of the gradients
    that the optimizer was given, and the `usual` norm, NaN where it is not known.
    """


class BirthReason(StrEnum):
    """Why an operation gave the first number that is not finite."""

    ZERO = "zero"  # it is not defined at zero, or its derivative is not
    NEGATIVE = "negative"  # it is not defined below zero
    OUTSIDE = "outside"  # at or beyond the ends of the interval where it is defined
    OVERFLOW = "overflow"  # the result is too large for its dtype
    CANCELLED = "cancelled"  # infinity minus infinity, or zero times infinity
    MASKED = "masked"  # a softmax over nothing but masked positions
    EMPTY = "empty"  # a mean over no elements
    NO_WEIGHT = "no_weight"  # a mean whose weights sum to zero: all targets are ignored
    ONE_SAMPLE = "one_sample"  # a standard deviation of one number
    TOO_LONG = "too_long"  # CTC: targets longer than their inputs
    OPERAND = "operand"  # an operand that nothing computed is not finite: the input or a constant
    INPUT = "input"  # the model was called with it
    TARGET = "target"  # the loss function was called with it
    WEIGHT = "weight"  # a parameter held it already, and no step had been made
    EPS = "eps"  # the optimizer divided by zero: its eps is zero in the dtype of the weights
    UPDATE = "update"  # the update of the step before was too large
    WRITTEN = "written"  # a parameter held it, and the optimizer did not write it
    UNKNOWN = "unknown"  # the operation is known and nothing else


class LossDoubt(StrEnum):
    """Why a loss does not tell how a training goes."""

    POLICY = "policy"  # log-probabilities of actions times returns, or advantages
    ASSIGNED = "assigned"  # the gradients were set, from several backwards that were cleared


class ZeroCause(StrEnum):
    """Why gradients are exactly zero."""

    SOFTMAX_OF_ONE = "softmax_of_one"  # over a dimension of one element
    IGNORED = "ignored"  # every target is `ignore_index`
    ROUNDING = "rounding"  # or a sign: the derivative is zero everywhere
    NO_OVERLAP = "no_overlap"  # a product of clamped lengths, one of them zero for every sample
    NORM_OF_ONE = "norm_of_one"  # each number is its own mean
    SHARE_OF_ONE = "share_of_one"  # a value over its own sum, norm or maximum over one element
    FLAT = "flat"  # an activation or a clamp, flat for all of its inputs
    MASKED = "masked"
    WITH_ITSELF = "with_itself"  # the ratio or the difference of a value and itself
    ZERO_FACTOR = "zero_factor"  # multiplied by a number or a mask of zeros
    ZERO_WEIGHT = "zero_weight"  # multiplied by a parameter of zeros
    ZERO_INPUT = "zero_input"  # multiplied by a computed value that is zero
    SOLVED = "solved"  # the loss is at its minimum


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of kind `kind` (a `FactKind`, or one that only a newer version knows), seen in
    `iteration`.

    `where` is the user's file:line, empty when there is none; `optimizer` indexes the optimizers of
    the run, -1 for none; `parameters` are names of columns. `values` are the numbers and words of
    its kind.
    """

    kind: str
    iteration: int
    where: str = ""
    optimizer: int = -1
    parameters: tuple[str, ...] = ()
    values: Mapping[str, float | str] = field(default_factory=dict[str, "float | str"])

    def number(self, name: str) -> float:
        """Return a number; NaN when the fact has none of this name."""
        value = self.values.get(name, nan)
        return nan if isinstance(value, str) else float(value)

    def text(self, name: str) -> str:
        """Return a word; empty when the fact has none of this name."""
        value = self.values.get(name, "")
        return value if isinstance(value, str) else ""
