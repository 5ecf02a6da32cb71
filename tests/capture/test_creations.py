"""Where the script creates an optimizer, read from its source."""

from __future__ import annotations

from pathlib import Path

from seismograd.capture.source.creations import optimizer_creation, rate_setter


def found(path: Path, source: str, name: str = "opt", kind: str = "Adam") -> tuple[str, str]:
    path.write_text(source)
    made = optimizer_creation([str(path)], kind, name, "train")
    return ("", "") if made is None else (made.statement.text, made.argument)


def test_of_several_the_one_with_the_name_of_the_optimizer(tmp_path: Path) -> None:
    one, two = "self.opt = optim.Adam(a)", "other = optim.Adam(b)"
    assert found(tmp_path / "a.py", f"{one}\n{two}\n") == (one, "lr")
    assert found(tmp_path / "b.py", f"{one}\n{two}\n", name="optimizer") == ("", "")
    both = "def f():\n    opt = Adam(a)\ndef train():\n    opt = Adam(b)\n"
    assert found(tmp_path / "d.py", both) == ("opt = Adam(b)", "lr")
    assert found(tmp_path / "c.py", f"def make():\n    return [{two[8:]}]\n", name="optimizers[0]")


def test_settings_of_a_framework_hold_the_rate(tmp_path: Path) -> None:
    text = "args = TrainingArguments(output_dir='out', learning_rate=1e-3)"
    assert found(tmp_path / "a.py", text, kind="AdamW") == (text, "learning_rate")
    config = "a = SFTConfig(learning_rate=1e-3)\nb = LoraConfig(r=4)"
    assert found(tmp_path / "b.py", config)[0].startswith("a = ")
    assert found(tmp_path / "c.py", "b = LoraConfig(r=4)") == ("", "")


def test_the_only_line_that_writes_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "def adjust(opt):\n    for g in opt.param_groups:\n        g['lr'] = lr\n"
        "def other(opt):\n    g['lr'] = 1\n    g['lr'] = 2\n"
        "def train(opt):\n    adjust(opt)\n    opt.step()\n"
    )
    setter = rate_setter(str(path), "Trainer.train")
    assert setter is not None
    assert (setter.line, setter.text) == (3, "g['lr'] = lr")
    assert rate_setter(str(path), "other") is None
    assert rate_setter(str(path), "<module>") is None
