"""A script run by us cannot tell: its output, exit code, arguments, tracebacks are as with
`python`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TRAIN = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
"""

SCRIPTS = {
    "arguments, name and file": """
        import sys, os
        print(sys.argv, __name__, __file__, __spec__, __package__, __doc__, type(__loader__).__name__, __cached__)
        print(os.path.realpath(sys.path[0]), sorted(k for k in globals()))
        """,
    "main module": """
        import sys, __main__, pickle
        class Thing: pass
        print(sys.modules["__main__"].__dict__ is globals(), __main__.Thing is Thing, type(pickle.loads(pickle.dumps(Thing()))) is Thing)
        """,
    "imports beside the script": "import neighbour\nprint(neighbour.VALUE)",
    "exit code": "import sys\nprint('before')\nsys.exit(3)",
    "exit message": "import sys\nsys.exit('no good')",
    "exit with nothing": "raise SystemExit",
    "an exception": TRAIN + "\ndef fails():\n    raise ValueError('of the script')\nfails()\n",
    "an exception with a cause": """
        def fails():
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise RuntimeError("on top") from error
        fails()
        """,
    "an exception inside backward": TRAIN + "\nloss.backward()\n",
    "an exception inside step": TRAIN + "\noptimizer.step(lambda: 1 / 0)\n",
    "its own excepthook": """
        import sys, traceback
        def hook(kind, error, trace):
            print("HOOK", kind.__name__, [f.name for f in traceback.extract_tb(trace)])
        sys.excepthook = hook
        raise KeyError("x")
        """,
    "threads that go on": """
        import threading
        go = threading.Event()
        def work():
            go.wait()
            print("worked")
        threading.Thread(target=work).start()
        print("main is done")
        go.set()
        """,
    "atexit": "import atexit\natexit.register(print, 'at exit')\nprint('end')",
    "standard input": "print(input())",
    "environment before torch": """
        import os
        os.environ["OMP_NUM_THREADS"] = "1"
        import torch
        print(torch.get_num_threads(), torch.__spec__.loader.__class__.__name__, torch.__loader__ is torch.__spec__.loader)
        """,
    "what is imported": "import sys\nprint('torch' in sys.modules, 'numpy' in sys.modules)",
    "a process of its own": """
        import multiprocessing
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
        """,
}


EXTENDED = {"an exception", "an exception inside step"}  # one inside backward is of both kinds


def python(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        input="typed\n",
        timeout=120,
        env={**os.environ, **more},
    )


def watched(
    *words: str, cwd: Path, out: str = "record", **more: str
) -> subprocess.CompletedProcess[str]:
    return python("-m", "seismograd", "run", "--quiet", "--out", out, *words, cwd=cwd, **more)


def write(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf8")
    (folder / "neighbour.py").write_text("VALUE = 'found'\n", encoding="utf8")
    return path


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(text, id=name, marks=pytest.mark.extended if name in EXTENDED else ())
        for name, text in SCRIPTS.items()
    ],
)
def test_a_script_behaves_as_under_python(script: str, tmp_path: Path) -> None:
    write(tmp_path, script)
    bare = python("script.py", "--lang", "x y", "--out", "--quiet", cwd=tmp_path)
    ours = watched("script.py", "--lang", "x y", "--out", "--quiet", cwd=tmp_path)
    assert (ours.stdout, ours.returncode) == (bare.stdout, bare.returncode)
    assert ours.stderr == bare.stderr


def test_a_script_elsewhere_finds_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", SCRIPTS["imports beside the script"])
    assert watched("deep/script.py", cwd=tmp_path).stdout == "found\n"


def test_a_module_behaves_as_under_python_m(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("print('package')\n")
    (package / "part.py").write_text("VALUE = 1\n")
    text = textwrap.dedent("""
        import sys
        from . import part
        print(sys.argv, __name__, __package__, __spec__.name, part.VALUE, sys.path[0])
        raise ValueError
        """)
    (package / "tool.py").write_text(text)
    (package / "__main__.py").write_text(text)
    for name in ("package.tool", "package"):
        bare = python("-m", name, "--lang", "1", cwd=tmp_path)
        ours = watched("-m", name, "--lang", "1", cwd=tmp_path, out=f"record-{name}")
        assert (ours.stdout, ours.returncode) == (bare.stdout, bare.returncode)
        assert ours.stderr.splitlines()[-3:] == bare.stderr.splitlines()[-3:]
        assert "seismograd" not in ours.stderr


# Where the tests themselves run in the background of a shell, what they start would ignore Ctrl-C.
LET_INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_it_as_python_ends_and_the_record_reads_back(tmp_path: Path) -> None:
    from seismograd import open_run
    from seismograd.views.run_condition import end_code

    write(tmp_path, TRAIN + "\nimport signal\nprint('ready', flush=True), signal.pause()\n")
    results: list[tuple[int, str]] = []
    for words in (
        ["script.py"],
        ["-m", "seismograd", "run", "--quiet", "--out", "record", "script.py"],
    ):
        command = [sys.executable, "-c", LET_INTERRUPT, *words]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            while "ready" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            carets = str.maketrans("", "", "^~ ")
            results.append((process.wait(60), process.stderr.read().translate(carets)))
    assert results[0] == results[1]
    run = open_run(tmp_path / "record")
    assert run.ended
    assert end_code(run) == "interrupted"
    assert len(run.steps) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.py"], "missing.py"),
        (["broken.py"], "broken.py:2"),
        (["binary.py"], "binary.py"),
        (["folder"], "folder"),
        ([], "seismograd run"),
        (["-m", "no.such.module"], "no.such.module"),
        (["--element", "fc1.weight", "ok.py"], "fc1.weight"),
        (["--level", "huge", "ok.py"], "huge"),
        (["--out", "full", "ok.py"], "full"),
        (["--out", "/proc/nowhere", "ok.py"], "/proc/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "ok.py").write_text("print('ran')")
    (tmp_path / "broken.py").write_text("x = 1\nthis is no python\n")
    (tmp_path / "binary.py").write_bytes(b"\x7fELF\x00\x01\x02")
    (tmp_path / "folder").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    ran = python("-m", "seismograd", "run", *words, cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert said in ran.stderr
    assert sorted(p for p in tmp_path.rglob("*") if p.name != "runs") == before, (
        "nothing is written, nothing is lost"
    )


def test_quiet_prints_nothing_and_otherwise_only_on_stderr(tmp_path: Path) -> None:
    write(tmp_path, TRAIN)
    bare = python("script.py", cwd=tmp_path)
    loud = python("-m", "seismograd", "run", "--out", "record", "script.py", cwd=tmp_path)
    assert loud.stdout == bare.stdout
    assert "record" in loud.stderr
    assert re.search("next: seismograd (view|report) record", loud.stderr)
    # the default place is below runs, with the time and the name
    quiet = python("-m", "seismograd", "run", "--quiet", "script.py", cwd=tmp_path)
    assert (quiet.stdout, quiet.returncode) == (bare.stdout, bare.returncode)
    assert quiet.stderr == bare.stderr
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.endswith("-script")
    assert (made / "meta.json").is_file()


def test_the_next_command_is_for_the_folder_that_the_user_is_in(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path, "import os, torch\nos.chdir('elsewhere')\n")
    said = python("-m", "seismograd", "run", "script.py", cwd=tmp_path)
    assert "seismograd  record: runs/" in said.stderr


def test_a_script_without_a_step_keeps_its_exit_code_and_the_record_says_so(tmp_path: Path) -> None:
    from seismograd import open_run

    write(
        tmp_path,
        "import torch\ntorch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()\nraise "
        "SystemExit(5)",
    )
    ran = python("-m", "seismograd", "run", "--out", "record", "script.py", cwd=tmp_path, LANG="C")
    assert ran.returncode == 5
    assert "optimizer.step() was never called" in ran.stderr
    run = open_run(tmp_path / "record")
    assert len(run.steps) == 0
    assert any("optimizer.step() was never called" in note.message.render() for note in run.notes)
    shown = python("-m", "seismograd", "show", "record", cwd=tmp_path)
    assert shown.returncode == 2
    assert len(shown.stderr.splitlines()) == 1
