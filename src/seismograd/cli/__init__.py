"""The command line: one file per command; this one holds their list and the way from `argv` to an
exit code.

Neither this module nor its imports load torch or NumPy: a script may set environment variables
before they load.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup

from seismograd.cli import (
    bench,
    check,
    compare,
    completion,
    explain,
    export,
    fsck,
    lab,
    mcp,
    pin,
    report,
    rules,
    run,
    runs,
    show,
    top,
    view,
    why,
)
from seismograd.cli.command_entry import CommandEntry, DeferredCommand
from seismograd.cli.terminal.character_fallback import any_terminal
from seismograd.cli.terminal.help_pages import TranslatedCommand, TranslatedGroup
from seismograd.cli.terminal.language_option import split_language
from seismograd.cli.terminal.readable_language import holds_chinese, readable_language
from seismograd.cli.terminal.usage_errors import TyperException, usage_error
from seismograd.errors import SeismogradError
from seismograd.i18n import mark, say, translate, use_language
from seismograd.package_info import VERSION
from seismograd.printable import printable

TRACEBACK = "SEISMOGRAD_TRACEBACK"
_READERS = ("check", "compare", "export", "fsck", "report", "runs", "show", "top", "view", "why")

COMMANDS = (
    CommandEntry(
        "run",
        run.run,
        mark(
            "Run a training script without changing it and record its gradients; its output, exit "
            "code and results stay the same."
        ),
        (
            "seismograd run train.py --epochs 3",
            "seismograd run -m package.train",
            "seismograd run --element 'fc1.weight[0,0]' train.py",
        ),
        run.CONTEXT,
    ),
    CommandEntry(
        "show",
        show.show,
        mark("Show the gradients at one recorded step, or one scalar at every step."),
        (
            "seismograd show",
            "seismograd show runs/20260101T120000Z-train --step 0 --param 'fc1.*'",
            "seismograd show runs/20260101T120000Z-train --element 'fc1.weight[0,0]'",
            "seismograd show --modules",
        ),
    ),
    CommandEntry(
        "check",
        check.check,
        mark(
            "Diagnose a recorded run: what is wrong, where, since which step, why, and what to "
            "change. The exit code is 1 if there is an error."
        ),
        (
            "seismograd check",
            "seismograd check 20260101T12 --fail-on warning",
            "seismograd check runs/20260101T120000Z-train --select SG3 --format github",
        ),
    ),
    CommandEntry(
        "why",
        why.why,
        mark(
            "Say in one answer why a training went wrong: findings, where the first bad number "
            "arose, what each layer does to the signal, and what changed shortly before."
        ),
        ("seismograd why", "seismograd why 20260101T12 --step 240 --param 'encoder.*'"),
    ),
    CommandEntry(
        "explain",
        explain.explain,
        mark(
            "Explain a rule: what it finds, how it decides, when it can be wrong, and what to try."
        ),
        ("seismograd explain SG101", "seismograd explain exploding-gradient"),
    ),
    CommandEntry("rules", rules.rules, mark("List all rules.")),
    CommandEntry(
        "runs",
        runs.runs,
        mark("List the recorded runs in a directory, newest first."),
        ("seismograd runs", "seismograd runs experiments/"),
    ),
    CommandEntry(
        "report",
        report.report,
        mark("Write a run to a single file: an HTML page that works offline, Markdown or JSON."),
        (
            "seismograd report",
            "seismograd report runs/20260101T120000Z-train -o report.md",
            "seismograd report --picture seismogram.svg",
        ),
    ),
    CommandEntry(
        "export",
        export.export,
        mark("Write the numbers of a run as Parquet, Arrow or CSV, for pandas, Polars or DuckDB."),
        (
            "seismograd export -o gradients.parquet",
            "seismograd export --param 'fc1.*' --steps 0:100 -o fc1.csv",
            "seismograd export --table steps -o steps.arrow",
        ),
    ),
    CommandEntry(
        "bench",
        bench.bench,
        mark(
            "Measure the overhead of watching on this machine and compare it with other ways to "
            "look at gradients."
        ),
        (
            "seismograd bench --quick",
            "seismograd bench --model my_package.models:small --format json",
        ),
    ),
    CommandEntry(
        "view",
        view.view,
        mark(
            "Show runs live in a browser: everything recorded about one run, the list of runs, or "
            "two runs compared."
        ),
        (
            "seismograd view",
            "seismograd view runs/20260101T120000Z-train",
            "seismograd view --port 8000 --no-open",
        ),
    ),
    CommandEntry(
        "top",
        top.top,
        mark(
            "Follow a run from another terminal while it trains: its findings and its worst layers."
        ),
        ("seismograd top", "seismograd top runs/20260101T120000Z-train"),
    ),
    CommandEntry(
        "compare",
        compare.compare,
        mark(
            "Compare two recorded runs: findings that only one of them has, and the parameters "
            "whose gradients differ most."
        ),
        ("seismograd compare", "seismograd compare runs/first runs/second"),
    ),
    CommandEntry(
        "pin",
        pin.pin,
        mark(
            "Run the tests that pin gradients, as they are and changed by an ulp, and write their "
            "golden files."
        ),
        ("seismograd pin tests/test_model.py", "seismograd pin tests -k encoder --runs 8"),
        pin.CONTEXT,
    ),
    CommandEntry(
        "mcp",
        mcp.mcp,
        mark(
            "Serve read-only tools about recorded runs to a language model, over stdin and stdout "
            "(Model Context Protocol)."
        ),
        ("seismograd mcp", "seismograd mcp experiments/"),
    ),
    CommandEntry(
        "fsck",
        fsck.fsck,
        mark(
            "Compare all of a recorded run with its checksums, and mend what can be mended. The "
            "exit code is 1 if it is damaged."
        ),
        ("seismograd fsck", "seismograd fsck runs/20260101T120000Z-train --mend"),
    ),
    CommandEntry(
        "lab",
        lab.lab,
        mark(
            "Run an experiment that shows how gradients behave; all its numbers are measured on "
            "the spot."
        ),
        ("seismograd lab", "seismograd lab gradients", "seismograd lab chain --out chain.html"),
    ),
    CommandEntry(
        "completion",
        completion.completion,
        mark("Print a script that completes commands, options, runs and rules in your shell."),
        (
            "seismograd completion bash >> ~/.bashrc",
            "seismograd completion zsh >> ~/.zshrc",
            "seismograd completion fish > ~/.config/fish/completions/seismograd.fish",
        ),
    ),
)

_SUMMARY = mark(
    "A seismograph for gradients: it records the gradients of a PyTorch training run, shows them, "
    "and reports what is wrong."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` without its first word unless given) and return the exit
    code.

    Whatever a command defers (a `DeferredCommand`: the user's script) runs last, when the argument
    parser has returned and nothing of ours is on the stack that could catch what it raises.
    """
    outcome = _read(list(sys.argv[1:] if argv is None else argv))
    return outcome if isinstance(outcome, int) else outcome.execute()


def application() -> TyperGroup:
    """Return the commands as typer's command tree."""
    app = typer.Typer(
        cls=TranslatedGroup,
        help=_SUMMARY,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(
        invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
    )(_seismograd)
    for entry in COMMANDS:
        app.command(
            entry.name,
            cls=TranslatedCommand,
            help=entry.summary,
            epilog="\n".join(entry.examples) or None,
            context_settings=dict(entry.context),
        )(entry.function)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def _seismograd(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help=mark("Print the version."))
    ] = False,
) -> None:
    if version:
        print(f"seismograd {VERSION}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _read(argv: list[str]) -> int | DeferredCommand:
    completion.prepare()
    group = application()
    lang: str | None = None
    arguments: Sequence[str] = argv
    try:
        lang, arguments = split_language(argv, group)
        lang = readable_language(lang, sys.stdout, sys.stderr)
        if lang == "zh" and not holds_chinese(sys.stdout):
            with use_language("en"):  # which it does hold; a report may be wanted in Chinese
                note = say(
                    "the encoding {name} has no Chinese; PYTHONIOENCODING=utf-8 prints it",
                    name=sys.stdout.encoding,
                )
                print(say("seismograd: {line}", line=note).render(), file=sys.stderr)
        if arguments[:1] == ["help"]:  # as git and cargo have it
            arguments = [*arguments[1:2], "--help"]
        with use_language(lang), any_terminal(sys.stdout, sys.stderr):
            outcome = group.main(args=arguments, prog_name="seismograd", standalone_mode=False)
            sys.stdout.flush()
    except SeismogradError as error:
        return _complain(error, lang)
    except TyperException as error:
        return _complain(usage_error(error), lang)
    except BrokenPipeError:
        return _reader_left()
    except Exception as error:
        # Reading a record that is damaged, or made to do harm, may break what reads it.
        if not any(name in arguments for name in _READERS) or os.environ.get(TRACEBACK):
            raise
        return _complain(_broken(error), lang)
    return 0 if outcome is None else outcome


def _broken(error: Exception) -> SeismogradError:
    return SeismogradError(
        say(
            "this command failed: {kind}: {reason}",
            kind=type(error).__name__,
            reason=printable(str(error)[:200]),
        ),
        say(
            "the record is probably damaged; if not, please report this with the traceback that "
            "{variable}=1 shows",
            variable=TRACEBACK,
        ),
    )


def _complain(error: SeismogradError, lang: str | None) -> int:
    with use_language(lang), any_terminal(sys.stderr):
        line = printable(" ".join(error.line().split()))
        print(translate("seismograd: {line}").format(line=line), file=sys.stderr)
    return error.exit_code


def _reader_left() -> int:
    """Handle `seismograd show … | head`, where the reader has what it wanted: keep the interpreter
    from complaining when it flushes at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
