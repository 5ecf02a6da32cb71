"""Code that a finding advises is put where it belongs."""

from __future__ import annotations

from benchmarks.truth.mend import mended

LOOP = """for x in data:
    loss = model(x)
    loss.backward()
    opt.step()
    clip(model)
"""


def test_a_line_that_was_missing_comes_before_the_line_that_is_there() -> None:
    text = mended(LOOP, "train.py:3", "opt.zero_grad()\nloss.backward()")
    assert text[0] == LOOP.replace("    loss.b", "    opt.zero_grad()\n    loss.b")


def test_lines_in_the_wrong_order_are_put_right() -> None:
    text = mended(LOOP, "train.py:5", "clip(model)\nopt.step()")
    assert text[0] == LOOP.replace(
        "    opt.step()\n    clip(model)", "    clip(model)\n    opt.step()"
    )


def test_a_line_with_another_loss_takes_the_place_of_the_line() -> None:
    text = mended(LOOP, "train.py:3", "(loss / 4).backward()")
    assert text[0] == LOOP.replace("loss.backward", "(loss / 4).backward")


def test_a_statement_that_is_made_a_comment_goes() -> None:
    text = mended(LOOP, "train.py:5", "# clip(model)")
    assert text[0] == LOOP.replace("    clip(model)", "    # clip(model)")


def test_a_loop_stands_for_the_loop_that_is_there() -> None:
    step = "    for each in both:\n        each.step()\n"
    source = LOOP.replace("    loss.backward()\n    opt.step()\n", step)
    text = mended(source, "train.py:4", "loss.backward()\nfor each in both:\n    each.step()")
    assert text[0] == source.replace(step, "    loss.backward()\n" + step)
    clear = "for each in both:\n    each.zero_grad()\nopt.step()"
    assert "each.zero_grad()\n    opt.step()" in mended(LOOP, "train.py:4", clear)[0]


def test_a_block_is_put_around_the_statement_that_is_there() -> None:
    text = mended(LOOP, "train.py:2", "with torch.no_grad():\n    loss = model(x)")
    around = "    with torch.no_grad():\n        loss = model(x)\n"
    assert text[0] == LOOP.replace("    loss = model(x)\n", around)


def test_what_comes_first_in_each_epoch_begins_the_outermost_loop() -> None:
    epochs = "for epoch in range(3):\n" + "".join(f"    {line}\n" for line in LOOP.splitlines())
    text = mended(epochs, "train.py:4", "model.train()  # first in each epoch")
    assert text[0].splitlines()[1] == "    model.train()  # first in each epoch"


def test_nothing_is_made_up() -> None:
    assert mended(LOOP, "", "opt.zero_grad()") == []
    assert mended(LOOP, "train.py:3", "") == []
    assert mended(LOOP, "train.py:3", "other thing") == []
    assert mended(LOOP, "train.py:3", "loss.backward()") == []


def test_the_only_statement_of_a_function_leaves_a_pass() -> None:
    hook = "def hook(optimizer):\n    optimizer.zero_grad()\n\n\ntrain(hook)\n"
    (text,) = mended(hook, "train.py:2", "# optimizer.zero_grad()")
    assert text.splitlines()[:3] == [
        "def hook(optimizer):",
        "    pass",
        "    # optimizer.zero_grad()",
    ]


def test_what_follows_a_replacement_stands_after_the_last_one() -> None:
    source = "model = build()\nopt = Adam(model)\nmodel[-1] = head(model)\ntrain(model, opt)\n"
    added = 'opt.add_param_group({"params": model[2].parameters()})'
    said = f"{added}  # after the line that replaces model[2]"
    (text,) = mended(source, "train.py:2", said)
    assert text.splitlines()[2:] == ["model[-1] = head(model)", said, "train(model, opt)"]


def test_a_statement_with_another_argument_takes_the_place_of_the_statement() -> None:
    source = "def build(self):\n    return Adam(self.head.parameters(), lr=0.1)\n"
    more = "return Adam([*self.head.parameters(), *self.body.parameters()], lr=0.1)"
    assert mended(source, "train.py:2", more) == [f"def build(self):\n    {more}\n"]


def test_the_loop_may_be_in_the_function_that_calls() -> None:
    source = (
        "class Trainer:\n    def step(self, x):\n        self.opt.step()\n"
        "        self.sched.step()\n\n"
        "    def fit(self):\n        for epoch in range(3):\n"
        "            losses = [self.advance(x) for x in self.data]\n"
        "            self.judge()\n"
    ).replace("def step", "def advance")
    said = "self.sched.step()  # once per epoch, after the loop over the batches"
    (text,) = mended(source, "train.py:4", said)
    assert text.splitlines()[6:9] == [
        "            losses = [self.advance(x) for x in self.data]",
        f"            {said}",
        "            self.judge()",
    ]
    assert "        self.opt.step()\n\n" in text
