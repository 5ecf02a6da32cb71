"""What the documents and the project's own files say is there."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from seismograd.cli import COMMANDS
from seismograd.record import layout
from seismograd.record.run_claim import STARTED
from seismograd.schema import STATISTICS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_contributing_names_files_that_exist() -> None:
    paths = re.findall(
        r"`((?:src|tests)/[\w./]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    )
    assert paths
    assert [
        path
        for path in paths
        if "NNN" not in path and "its_name" not in path and not (ROOT / path).exists()
    ] == []


def test_the_format_document_lists_every_file_and_statistic() -> None:
    document = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    for statistic in STATISTICS:
        when = "sampled" if statistic.sampled else "every step"
        assert f"| `{statistic.name}` | `{layout.statistic_file(statistic)}` | {when} |" in document
    for name in (
        *layout.ENTRY_DTYPES,
        *layout.LINE_FILES,
        STARTED,
        layout.META,
        layout.README,
        layout.END,
        layout.PARAMETERS,
        layout.STATE,
    ):
        assert f"`{name}`" in document


@pytest.mark.parametrize("document", ["README.md", "README.zh.md"])
def test_the_readme_names_every_command_and_shows_what_it_prints(document: str) -> None:
    readme = (ROOT / document).read_text(encoding="utf-8")
    assert [entry.name for entry in COMMANDS if f"seismograd {entry.name}" not in readme] == []
    for block in re.findall(r"<!-- \w+ -->\n```\n(.*?)\n```", readme, flags=re.DOTALL):
        assert block.startswith("$ seismograd ")
        assert len(block.splitlines()) > 3


def test_the_chinese_readme_leads_where_the_english_one_does() -> None:
    english, chinese = (
        {
            link.replace("docs/zh/", "docs/")
            for link in re.findall(r"\]\((docs/[^)]+)\)", (ROOT / name).read_text("utf-8"))
        }
        for name in ("README.md", "README.zh.md")
    )
    assert len(english) > 15
    assert english - chinese == {"docs/img/broken_net.svg"}  # in English


def test_everything_that_development_installs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *chain.from_iterable(project["optional-dependencies"].values()),
    ]
    pins = {
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    assert {re.split(r"[\[>=]", requirement)[0] for requirement in wanted} - pins == set()


def test_the_oldest_releases_are_tested_with_at_their_bounds() -> None:
    """`make test-oldest` installs what pyproject.toml calls the oldest supported release."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    of_use = {
        name: requirements
        for name, requirements in extras["optional-dependencies"].items()
        if name not in ("docs", "dev")
    }
    bounds: dict[str, str] = dict(
        requirement.split(">=")
        for requirement in chain(
            extras["optional-dependencies"]["dev"],
            extras["dependencies"],
            chain.from_iterable(of_use.values()),
        )
    )
    oldest, newest = (
        dict(
            re.findall(r"^([\w-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        )
        for name in ("constraints-oldest.txt", "constraints.txt")
    )

    def parts(version: str) -> list[str]:
        return re.sub(r"(\.0)+$", "", version).split(".")

    assert {name for name in oldest if parts(oldest[name]) != parts(bounds[name])} == set()
    wanted = {
        requirement.split(">=")[0]
        for requirement in chain(extras["dependencies"], chain.from_iterable(of_use.values()))
    }
    untested = wanted - oldest.keys()
    assert {name for name in untested if parts(newest[name]) != parts(bounds[name])} == set()


def test_ci_runs_the_same_as_a_developer() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/bin/env bash\n")
    assert script.splitlines()[-1] == "make test"


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "seismograd"
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}


def _quoted(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def test_the_architecture_names_paths_that_exist() -> None:
    paths = {word for word in _quoted(ARCHITECTURE) if re.fullmatch(r"[\w.]+/[\w./]*", word)}
    assert len(paths) > 30
    assert [
        p for p in sorted(paths) if not (ROOT / p).exists() and not (PACKAGE / p).exists()
    ] == []


def test_the_architecture_names_code_that_exists() -> None:
    names = {
        word
        for word in _quoted(ARCHITECTURE)
        if re.fullmatch(r"\w+(\.\w+)+", word)
        and word.split(".")[0] in ROOMS
        and not (PACKAGE / word).exists()
    }
    assert len(names) > 50
    for name in sorted(names):
        pkgutil.resolve_name(f"seismograd.{name}")  # raises where there is none


def test_the_architecture_names_every_room() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    named = {word.rstrip("/").split("/")[0] for word in _quoted(ARCHITECTURE) if "/" in word}
    assert rooms - named == set()


def test_the_readme_and_contributing_lead_to_the_architecture() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        assert "(docs/architecture.md)" in (ROOT / document).read_text(encoding="utf-8")
