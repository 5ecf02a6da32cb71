"""Bad input is one line on stderr with the mend, exit code 2, nothing on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seismograd.cli import application, main
from seismograd.cli.command_list import COMMANDS
from seismograd.record.layout import META
from seismograd.views.formats import format_list
from seismograd.views.text_layout import cell_width
from tests.record.edits import read_unsealed
from tests.synthetic import write_run
from tests.views.samples import small_net

BAD_LINES = (
    (["shw"], "unknown command 'shw' · did you mean show?"),
    (
        ["xyzzy"],
        "unknown command 'xyzzy' · available commands: run, show, check, why, explain, rules, runs",
    ),
    (["--vresion"], "seismograd has no option --vresion · did you mean --version?"),
    (["train.py", "--lr", "1"], "did you mean seismograd run train.py --lr 1?"),
    (["python", "train.py"], "did you mean seismograd run train.py?"),
    (["python3", "-m", "pkg", "-x"], "did you mean seismograd run -m pkg -x?"),
    (["-m", "pkg"], "did you mean seismograd run -m?"),
    (["run", "python", "train.py", "-x"], "did you mean seismograd run train.py -x?"),
    (["run", "python3.12", "-u", "-m", "pkg"], "did you mean seismograd run -m pkg?"),
    (
        ["run", "torchrun", "--nproc-per-node", "2", "train.py"],
        "did you mean torchrun --nproc-per-node 2 -m seismograd run train.py?",
    ),
    (
        ["run", "deepspeed", "--num_gpus", "2", "train.py"],
        "did you mean deepspeed --num_gpus 2 --no_local_rank --module seismograd run train.py?",
    ),
    (["help", "shw"], "unknown command 'shw' · did you mean show?"),
    (["run", "--quite", "x.py"], "seismograd run has no option --quite · did you mean --quiet?"),
    (
        ["run", "--budget", "much", "x.py"],
        "--budget needs a percentage, not 'much' · for example 2",
    ),
    (
        ["run", "--budget", "-1", "x.py"],
        "--budget needs a percentage, not '-1' · for example 2",
    ),
    (
        ["run", "--budget", "300%", "x.py"],
        "--budget needs a percentage, not '300%' · for example 2",
    ),
    (["view", "A_FILE"], "is a file, but a run is a directory"),
    (["show", "RUN", "--stp", "3"], "seismograd show has no option --stp · did you mean --step?"),
    (["show", "RUN", "--step"], "--step needs a value"),
    (["show", "RUN", "--step", "last"], "--step does not accept 'last' · use an integer"),
    (["show", "RUN", "--step", "-1"], "there is no step -1 · the run contains steps 0 to 2"),
    (["show", "RUN", "--step", "3"], "there is no step 3 · the run contains steps 0 to 2"),
    (
        ["show", "RUN", "--format", "xml"],
        "unknown format 'xml' · available formats: table, plain, json",
    ),
    (["show", "RUN", "--param", "fc3.*"], "no parameter matches 'fc3.*' · the closest names are "),
    (["show", "RUN", "--element", "fc1.weight"], "'fc1.weight' does not name an element"),
    (
        ["show", "RUN", "--element", "fc1.weight[0,0]"],
        "fc1.weight[0,0] was not recorded in this run · record it with: seismograd run --element",
    ),
    (["show", "RUN", "extra", "more"], "seismograd show does not accept extra more"),
    (["show", "NOWHERE"], "NOWHERE"),
    (["show", "EMPTY"], "EMPTY"),
    (["show", "A_FILE"], "A_FILE"),
    (["show", "WITHOUT_STEPS"], "no optimizer step was recorded in "),
    (
        ["check", "RUN", "--format", "xml"],
        "unknown format 'xml' · available formats: text, json, github, sarif, junit",
    ),
    (["check", "NOWHERE"], "NOWHERE"),
    (["explain"], "argument RULE is missing"),
    (["explain", "SG999"], "unknown rule 'SG999'"),
    (["rules", "all"], "seismograd rules does not accept all"),
    (["runs", "NOWHERE"], " does not exist · record one with: seismograd run train.py"),
    (["runs", "EMPTY"], "there is no run in "),
)


@pytest.fixture(scope="module")
def positions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Directories of every kind, by the names they have in `BAD_LINES`."""
    tmp_path = tmp_path_factory.mktemp("places")
    small_net(tmp_path / "RUN")
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "A_FILE").write_text("not a run")
    write_run(tmp_path / "WITHOUT_STEPS", [])
    return {
        name: str(tmp_path / name)
        for name in ("RUN", "EMPTY", "A_FILE", "WITHOUT_STEPS", "NOWHERE")
    }


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("line", "says"), BAD_LINES, ids=[" ".join(line) for line, _ in BAD_LINES])
def test_bad_input_is_one_line_with_the_mend(
    positions: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    line: list[str],
    says: str,
    lang: str,
) -> None:
    assert main(["--lang", lang, *(positions.get(word, word) for word in line)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    if lang == "en":
        assert err.startswith("seismograd: ")
        assert says in err
    else:
        assert err.startswith("seismograd：")
        assert cell_width(err) > len(err)


def test_an_unknown_language_is_answered_in_that_of_the_locale(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "RUN", "--lang", "fr"]) == 2
    assert "--lang does not support 'fr' · use --lang en or --lang zh" in capsys.readouterr().err


def test_a_run_of_a_newer_schema_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [])
    meta = run / META
    meta.write_text(json.dumps(read_unsealed(meta) | {"schema": 99}), "utf-8")
    assert main(["show", str(run)]) == 2
    assert "newer version of seismograd" in capsys.readouterr().err


def test_every_command_has_a_page_of_help_in_both_languages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for entry in COMMANDS:
        assert main([entry.name, "--help", "--lang", "en"]) == 0
        english = capsys.readouterr().out
        assert main(["--lang", "zh", entry.name, "--help"]) == 0
        chinese = capsys.readouterr().out
        assert english.startswith(f"Usage: seismograd {entry.name}")
        assert chinese.startswith(f"用法：seismograd {entry.name}")
        assert "Options:" in english
        assert "选项：" in chinese
        words = [
            line.strip()
            for line in english.splitlines()
            if " " in line.strip() and not line.strip().startswith(("seismograd", "--", "-"))
        ]
        assert [line for line in words if line in chinese and line.isascii()] == []


def test_help_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for lang in ("en", "zh"):
        for command in ([], *([entry.name] for entry in COMMANDS)):
            main([*command, "--help", "--lang", lang])
            assert max(map(cell_width, capsys.readouterr().out.splitlines())) <= 80


def test_without_a_command_the_page_of_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    alone = capsys.readouterr().out
    main(["--help"])
    assert alone == capsys.readouterr().out
    assert all(entry.name in alone for entry in COMMANDS)


@pytest.mark.parametrize(
    ("command", "views"),
    [
        ("show", format_list.STEP_FORMATS),
        ("show", format_list.ELEMENT_FORMATS),
        ("check", format_list.DIAGNOSIS_FORMATS),
    ],
)
def test_help_names_the_formats_that_there_are(
    command: str, views: tuple[format_list.OutputFormat[object], ...]
) -> None:
    option = next(
        param for param in application().commands[command].params if "--format" in param.opts
    )
    assert option.metavar == "|".join(view.name for view in views)
