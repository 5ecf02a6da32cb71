"""What a script starts, or becomes, is not recorded; what to type is said, and works."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import seismograd
from seismograd.cli.launch.launchers import line_to_type, python_command

TRAIN = """
import os
import torch
torch.manual_seed(int(os.environ.get("RANK", 0)))
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
print("trained")
"""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/python3", "-u", "train.py", "--lr", "1"], "train.py"),
        ([sys.executable, "-X", "dev", "-m", "package.train"], "package.train"),
        ("python train.py --lr 1", "train.py"),
        ([Path("/usr/bin/python3"), b"train.py"], "train.py"),
        (["torchrun", "train.py"], "torchrun"),
        (["python", "-c", "print(1)"], None),
        (["python"], None),
        (["python", "-m"], None),
        (["ls", "train.py"], None),
        (["python", "/lib/torch/_inductor/compile_worker/__main__.py"], None),
        (["python", "-m", "seismograd", "run", "train.py"], None),
        ("python 'unclosed", None),
        ([], None),
        (None, None),
    ],
)
def test_a_command_line_is_read(command: object, name: str | None) -> None:
    found = python_command(command)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    ("target", "is_module", "arguments", "command", "line"),
    [
        (
            "torch.distributed.run",
            True,
            ["--nproc-per-node", "2", "train.py", "--lr", "1"],
            ["python", "-u", "train.py", "--lr", "1"],
            "python -m torch.distributed.run --nproc-per-node 2 -m seismograd run train.py --lr 1",
        ),
        (
            "/bin/no/torchrun",
            False,
            ["--standalone", "-m", "package.train"],
            ["python", "-u", "-m", "package.train"],
            "/bin/no/torchrun --standalone -m seismograd run -m package.train",
        ),
        (
            "drive.py",
            False,
            ["train.py"],
            [sys.executable, "train.py", "a b"],
            "seismograd run train.py 'a b'",
        ),
        (
            "drive.py",
            False,
            [],
            ["/else/python", "-u", "-m", "x"],
            "/else/python -u -m seismograd run -m x",
        ),
        (
            "drive.py",
            False,
            [],
            ["torchrun", "--standalone", "train.py"],
            "torchrun --standalone -m seismograd run train.py",
        ),
        (
            "/bin/no/deepspeed",
            False,
            ["--num_gpus", "2", "train.py", "--lr", "1"],
            ["python", "-u", "-m", "deepspeed.launcher.launch", "--world_info=x", "train.py"],
            "/bin/no/deepspeed --num_gpus 2 --no_local_rank --module seismograd run train.py "
            "--lr 1",
        ),
        (
            "drive.py",
            False,
            [],
            ["deepspeed", "--no_local_rank", "--module", "package.train"],
            "deepspeed --no_local_rank --module seismograd run -m package.train",
        ),
    ],
)
def test_the_line_to_type(
    target: str, is_module: bool, arguments: list[str], command: list[str], line: str
) -> None:
    found = python_command(command)
    assert found is not None
    assert line_to_type(found, target, is_module, arguments) == line


def seismograd_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LANGUAGE": "en",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    environment.pop("RANK", None)
    command = [sys.executable, "-m", "seismograd", "run", "--out", "record", *words]
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )


def told(err: str) -> list[str]:
    return [
        line.partition("to record it, run: ")[2]
        for line in err.splitlines()
        if "to record it, run: " in line
    ]


LAUNCHERS = {
    "torch.distributed.run": [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "train.py",
    ],
    "accelerate": ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "train.py"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    ["torch.distributed.run", pytest.param("accelerate", marks=pytest.mark.extended)],
)
def test_the_line_for_a_launcher_records(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(launcher.partition(".")[0])
    (tmp_path / "train.py").write_text(TRAIN)
    ran = seismograd_run(tmp_path, *LAUNCHERS[launcher])
    assert ran.returncode == 0, ran.stderr
    (line,) = told(ran.stderr)
    words = shlex.split(line)
    assert words[-4:] == ["-m", "seismograd", "run", "train.py"]
    typed = subprocess.run(
        [sys.executable, *words[1:]],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert typed.returncode == 0, typed.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert len(seismograd.open_run(run).steps) == 3


COMMAND = """#!/usr/bin/env python3
import sys
from trl.cli import main
sys.exit(main())
"""
TINY = """
import json
from pathlib import Path
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(30))]
tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = Whitespace()
special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained("model")
LlamaForCausalLM(LlamaConfig(
    vocab_size=33, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, eos_token_id=1, bos_token_id=1,
)).save_pretrained("model")
texts = (" ".join(f"w{i * j % 30}" for j in range(12)) for i in range(1, 17))
Path("data").mkdir()
Path("data/train.jsonl").write_text("".join(json.dumps({"text": t}) + "\\n" for t in texts))
"""


@pytest.mark.slow
def test_the_line_for_trl_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command by its name, which starts a script within its package through accelerate."""
    pytest.importorskip("trl")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "trl").write_text(COMMAND)
    (folder / "trl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    subprocess.run([sys.executable, "-c", TINY], check=True, cwd=tmp_path, capture_output=True)
    options = {
        "model_name_or_path": "model",
        "dataset_name": "./data",
        "output_dir": "out",
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "bf16": False,
        "save_strategy": "no",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    ran = seismograd_run(tmp_path, "trl", "sft", *words, "--use_cpu")
    assert ran.returncode == 0, ran.stderr
    (line,) = told(ran.stderr)
    typed = shlex.split(line)
    assert typed[:2] == ["seismograd", "run"]
    assert Path(typed[2]).parts[-3:] == ("trl", "scripts", "sft.py")
    recorded = seismograd_run(tmp_path, "--out", "second", *typed[2:])
    assert recorded.returncode == 0, recorded.stderr
    assert len(seismograd.open_run(tmp_path / "second").steps) == 3


def test_a_command_is_run_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, first in (("learn", "#!/usr/bin/python3"), ("other", "#!/bin/sh")):
        (folder / name).write_text(f"{first}\n{TRAIN}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    ran = seismograd_run(tmp_path, "learn")
    assert (ran.returncode, ran.stdout) == (0, "trained\n")
    assert len(seismograd.open_run(tmp_path / "record").steps) == 3
    for name in ("other", "no-such-command", "./learn"):
        ran = seismograd_run(tmp_path, name)
        assert ran.returncode != 0
        assert f"script {name} does not exist" in ran.stderr


STARTS = {
    "subprocess": "subprocess.run([sys.executable, 'train.py'], check=True)",
    "shell": "subprocess.run('python train.py', shell=True, check=True)",
    "os.system": "os.system('python train.py')",
    "os.execv": "os.execv(sys.executable, [sys.executable, 'train.py'])",
    "os.execlp": "os.execlp('python', 'python', 'train.py')",
}


@pytest.mark.parametrize("start", STARTS)
def test_a_program_that_a_script_starts_or_becomes_is_named(start: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('trained')\n")  # what it does is not looked at
    (tmp_path / "drive.py").write_text(f"import os, subprocess, sys\n{STARTS[start]}\n")
    ran = seismograd_run(tmp_path, "drive.py")
    assert (ran.returncode, ran.stdout) == (0, "trained\n")
    assert told(ran.stderr) == ["seismograd run train.py"]


def test_a_training_that_starts_a_helper_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("print('helped')")
    (tmp_path / "train.py").write_text(
        TRAIN + "import subprocess, sys\nsubprocess.run([sys.executable, 'helper.py'])\n"
    )
    ran = seismograd_run(tmp_path, "train.py")
    assert "steps: 3" in ran.stderr
    assert told(ran.stderr) == []


def test_a_program_that_cannot_be_started_raises_as_it_does_without_us(tmp_path: Path) -> None:
    text = """
        import os, subprocess, traceback
        for start in (lambda: subprocess.run(["no such program"]), lambda: os.execv("no/such", ["no"])):
            try:
                start()
            except OSError as error:
                print(type(error).__name__, error, [f.name for f in traceback.extract_tb(error.__traceback__)][:2])
        """
    (tmp_path / "script.py").write_text(textwrap.dedent(text))
    bare = subprocess.run(
        [sys.executable, "script.py"], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        seismograd_run(tmp_path, "script.py").stdout.splitlines()[0] == bare.stdout.splitlines()[0]
    )


TWO = """
import torch, torch.multiprocessing as mp, torch.nn as nn
def train(rank, model):
    torch.manual_seed(rank)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range(30 + 10 * rank):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
if __name__ == "__main__":
    model = nn.Linear(4, 1)
    model.share_memory()
    processes = [mp.get_context("spawn").Process(target=train, args=(rank, model)) for rank in range(2)]
    [p.start() for p in processes]
    [p.join() for p in processes]
"""


@pytest.mark.slow
def test_processes_that_train_side_by_side_are_runs_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TWO)
    ran = seismograd_run(tmp_path, "train.py")
    assert "record: record" in ran.stderr
    assert "have their own runs: record-process-2" in ran.stderr
    runs = [seismograd.open_run(tmp_path / name) for name in ("record", "record-process-2")]
    assert sorted(len(run.steps) for run in runs) == [30, 40]
    assert all(run.ended and not run.notes for run in runs)


def test_two_programs_with_one_out_show_each_its_own(tmp_path: Path) -> None:
    # neither ends before both have trained
    (tmp_path / "train.py").write_text(
        TRAIN + "import glob, os, time\nopen(f'trained-{os.getpid()}', 'w').close()\n"
        "end_s = time.monotonic() + 60\n"
        "while len(glob.glob('trained-*')) < 2 and time.monotonic() < end_s:\n"
        "    time.sleep(0.05)\n"
    )
    command = [sys.executable, "-m", "seismograd", "run", "--out", "record", "train.py"]
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LANGUAGE": "en"},
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=200)[1].splitlines()[1] for process in both)
    assert [line.partition("record: ")[2].partition(" ")[0] for line in said] == [
        "record",
        "record-process-2",
    ]


def test_why_nothing_could_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import shutil\nshutil.rmtree('record')\nopen('record', 'w').close()\n" + TRAIN
    )
    ran = seismograd_run(tmp_path, "train.py")
    assert ran.returncode == 0
    assert "Not a directory" in ran.stderr or "File exists" in ran.stderr
