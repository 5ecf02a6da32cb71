"""All commands, in the order of the help page."""

from __future__ import annotations

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
    merge,
    pin,
    report,
    rules,
    run,
    runs,
    show,
    top,
    upload,
    view,
    why,
)
from seismograd.cli.command_entry import CommandEntry
from seismograd.i18n import mark

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
        "merge",
        merge.merge,
        mark(
            "Bring the records of the processes of one training together that could not reach "
            "rank 0 over the network."
        ),
        ("seismograd merge runs/job-4711 runs/job-4711-rank-8 --out runs/whole",),
    ),
    CommandEntry(
        "upload",
        upload.upload,
        mark("Send a recorded run to the URL of a place that fsspec knows, such as S3."),
        (
            "seismograd upload runs/20260101T120000Z-train s3://bucket/runs/first",
            "seismograd upload 20260101T12",
        ),
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
