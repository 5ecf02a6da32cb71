"""The commands as a user starts them: exit codes, what goes where, what is loaded."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from seismograd import __version__
from tests.rules.made import chain
from tests.synthetic import block, event, make_parameters, note, write_run
from tests.views.samples import small_net, without_steps
from tests.views.test_step import AS_IN_THE_ISSUE


def surroundings(**changes: str) -> dict[str, str]:
    """The environment of a command: this interpreter's path, an English locale, nothing that
    says how wide or colourful.
    """
    left_out = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LANGUAGE", "LC_ALL", "LC_MESSAGES")
    path = os.pathsep.join(str(Path(each).resolve()) for each in sys.path if each)
    return (
        {name: value for name, value in os.environ.items() if name not in left_out}
        | {"PYTHONPATH": path, "LANG": "C.UTF-8"}
        | changes
    )


def seismograd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seismograd", *arguments]
    return subprocess.run(
        command, env=surroundings(**environment), capture_output=True, encoding="utf-8", check=False
    )


def test_show_in_chinese_prints_the_lines_of_the_issue_and_nothing_else(tmp_path: Path) -> None:
    small_net(tmp_path / "run")
    done = seismograd(
        "show", str(tmp_path / "run"), "--step", "0", "--format", "plain", "--lang", "zh"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, AS_IN_THE_ISSUE + "\n", "")


def test_the_language_is_that_of_the_locale(tmp_path: Path) -> None:
    small_net(tmp_path / "run")
    plain = ("show", str(tmp_path / "run"), "--step", "0", "--format", "plain")
    assert seismograd(*plain, LANG="zh_CN.UTF-8").stdout == AS_IN_THE_ISSUE + "\n"
    table = seismograd("show", str(tmp_path / "run"), "--step", "0", LANG="zh_CN.UTF-8").stdout
    assert table.startswith("第 0 步的梯度")
    assert "Epoch" not in table
    assert "用法" in seismograd("--help", LANG="zh_CN.UTF-8").stdout
    assert "Usage" in seismograd("--help", LANG="de_DE.UTF-8").stdout


def test_a_pipe_gets_the_result_only_and_no_colour(tmp_path: Path) -> None:
    small_net(tmp_path / "run")
    done = seismograd("show", str(tmp_path / "run"))
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "200,704" in done.stdout  # a pipe is wide enough for every column


def test_check_exits_with_1_when_a_finding_is_an_error(tmp_path: Path) -> None:
    nan = float("nan")
    broken = block(
        [[1.0, 1.0]] * 3 + [[nan, 1.0]] * 5,
        loss=[1.0] * 3 + [nan] * 5,
        parameters=make_parameters(2),
    )
    write_run(tmp_path / "run", [broken])
    done = seismograd("check", str(tmp_path / "run"), "--format", "json")
    content = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(each["code"], each["first_step"]) for each in content["findings"]] == [("SG201", 3)]
    assert done.stderr == ""


def test_check_exits_with_0_when_nothing_is_wrong_and_with_2_when_no_rule_could_look(
    tmp_path: Path,
) -> None:
    without_steps(tmp_path / "nothing")
    done = seismograd("check", str(tmp_path / "nothing"), "--format", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["end"] == "no steps"
    assert {each["status"] for each in json.loads(done.stdout)["rules"]} == {"not evaluated"}
    small_net(tmp_path / "healthy", 30)
    assert seismograd("check", str(tmp_path / "healthy")).returncode == 0


@pytest.mark.parametrize(
    ("fail_on", "code"), [(None, 0), ("error", 0), ("warning", 1), ("info", 1)]
)
def test_check_fails_on_what_it_is_told_to(tmp_path: Path, fail_on: str | None, code: int) -> None:
    write_run(tmp_path / "run", [block(chain(10, 0.1, steps=30))])  # a warning
    options = [] if fail_on is None else ["--fail-on", fail_on]
    done = seismograd("check", str(tmp_path / "run"), "--select", "SG101", *options)
    assert "warning SG101" in done.stdout
    assert done.returncode == code


def test_check_does_not_fail_on_a_severity_that_does_not_exist(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [block([[1.0]] * 4)])
    done = seismograd("check", str(tmp_path / "run"), "--fail-on", "catastrophe")
    assert done.returncode == 2
    assert "use one of: error, warning, info" in done.stderr


def test_what_is_to_be_known_of_the_record_is_said_on_stderr(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [block([[1.0]] * 4)], notes=[note()])
    (run / "end.json").unlink()
    with (run / "steps.bin").open("ab") as torn:
        torn.write(b"\0" * 7)
    done = seismograd("show", str(run), "--format", "json")
    assert done.returncode == 0
    json.loads(done.stdout)
    assert len(done.stderr.splitlines()) == 3
    for words in ("has not ended", "cut off", "a hook failed"):
        assert words in done.stderr


@pytest.mark.parametrize(
    "command", [("show",), ("check",), ("runs",), ("rules",), ("explain", "SG101")]
)
def test_on_a_terminal_the_next_command_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    small_net(tmp_path / "runs" / "it")
    arguments = [*command, "runs/it"] if command[0] in ("show", "check") else [*command]
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "seismograd", *arguments],
        cwd=tmp_path,
        env=surroundings(),
        stdout=slave,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )
    os.close(slave)
    os.close(master)
    assert done.stderr.startswith("next: seismograd ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["run", "--help"], ["show", "nowhere"], ["rules", "--format", "x"]],
)
def test_no_command_loads_torch_and_help_loads_no_numpy_either(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom seismograd.cli import main\nmain(sys.argv[1:])\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'numpy'}), "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=surroundings(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    heavy = done.stderr.splitlines()[-1]
    assert heavy in ("[]", "['numpy']") if arguments[0] == "show" else heavy == "[]"


def test_the_version_is_printed() -> None:
    assert seismograd("--version").stdout == f"seismograd {__version__}\n"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    long = block([[1.0]] * 5000, elements=[[1.0]] * 5000, events=[event(1, 0)])
    from tests.synthetic import info

    write_run(tmp_path / "run", [long], run_info=info(elements=("net.0.weight[0,0]",)))
    command = [
        sys.executable,
        "-m",
        "seismograd",
        "show",
        str(tmp_path / "run"),
        "--element",
        "net.0.weight[0,0]",
        "--format",
        "plain",
    ]
    with subprocess.Popen(
        command, env=surroundings(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_terminal_that_cannot_show_every_character_gets_question_marks(tmp_path: Path) -> None:
    small_net(tmp_path / "run")
    plain = ("show", str(tmp_path / "run"), "--format", "plain", "--lang", "zh")
    done = seismograd(*plain, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "PYTHONIOENCODING=utf-8" in done.stderr
    assert done.stdout.isascii()
    assert "fc1.weight" in done.stdout.splitlines()[1]


def test_what_breaks_a_reader_is_one_line_and_a_traceback_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seismograd.cli import TRACEBACK, main
    from seismograd.views import step

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("\x1b[2J")

    small_net(tmp_path / "run")
    monkeypatch.setattr(step, "read_step", broken)
    assert main(["show", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: \\x1b[2J" in line
    assert TRACEBACK in line
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ZeroDivisionError):
        main(["show", str(tmp_path / "run")])


@pytest.mark.parametrize("spelling", [["-V"], ["--version"]])
def test_the_version_has_a_short_option(spelling: list[str]) -> None:
    assert seismograd(*spelling).stdout == f"seismograd {__version__}\n"


def test_help_is_a_word_too() -> None:
    assert seismograd("help").stdout == seismograd("--help").stdout
    assert seismograd("help", "check").stdout == seismograd("check", "--help").stdout
    assert "check" in seismograd("help", "check").stdout


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("command", [("check", "RUN"), ("show", "RUN"), ("runs", "."), ("rules",)])
def test_a_terminal_without_utf_8_gets_something_alike(
    tmp_path: Path, command: tuple[str, ...], lang: str
) -> None:
    small_net(tmp_path / "RUN", 30)
    arguments = [str(tmp_path / each) if each in ("RUN", ".") else each for each in command]
    done = seismograd(
        *arguments, "--lang", lang, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert done.returncode == 0
    assert ("PYTHONIOENCODING=utf-8" in done.stderr) == (lang == "zh")
    assert done.stdout.isascii()
    if lang == "en":
        assert "?" not in done.stdout
