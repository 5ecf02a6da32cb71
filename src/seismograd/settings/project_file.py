"""The settings that a project makes once for all its runs: `[tool.seismograd]` in
pyproject.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, mark, say
from seismograd.settings.rule_selection import RuleSelection, select_rules

SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="RULES",
        help=mark("Use only these rules: codes, code prefixes or names, separated by commas."),
    ),
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="RULES", help=mark("Ignore these rules."))
]

FILE = "pyproject.toml"
KEYS = ("select", "ignore", "halt-on", "thresholds", "out")


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """`select`, `ignore`, `halt-on` and `[tool.seismograd.thresholds.SG101]`, as they are
    written. `out`: the URL of the folder that records go to.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    halting: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )
    out: str | None = None

    def selection(
        self,
        select: Sequence[str] | None,
        ignore: Sequence[str] | None,
        halting: Sequence[str] | None = None,
    ) -> RuleSelection:
        """Return the rule selection combined with the command line's, whose `select` and `halt-on`
        replace these and whose `ignore` is added.
        """
        return select_rules(
            select or self.select,
            (*self.ignore, *(ignore or ())),
            self.thresholds,
            halting or self.halting,
        )


def read_settings(folder: Path | None = None) -> ProjectSettings:
    """Return the settings of the nearest pyproject.toml with a `[tool.seismograd]`, from this
    folder (the current one) upwards.

    Raises:
        SeismogradError: the file is invalid TOML, or has an unknown key or value; with the file and
            the key.
    """
    start = Path.cwd() if folder is None else folder
    for position in (start, *start.parents):
        path = position / FILE
        if path.is_file():
            table = _table(path)
            if table is not None:
                return _settings(path, table)
    return ProjectSettings()


def _table(path: Path) -> dict[str, Any] | None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SeismogradError(
            say("{path} is not valid TOML: {reason}", path=str(path), reason=str(error)),
            say("fix the file"),
        ) from error
    tool = document.get("tool", {})
    table: Any = tool.get("seismograd") if isinstance(tool, dict) else None  # pyright: ignore[reportUnknownVariableType]
    if table is not None and not isinstance(table, dict):
        raise SeismogradError(
            say("{path}: tool.seismograd must be a table", path=str(path)),
            say("write [tool.seismograd]"),
        )
    return table  # pyright: ignore[reportUnknownVariableType]


def _settings(path: Path, table: dict[str, Any]) -> ProjectSettings:
    unknown = sorted(set(table) - set(KEYS))
    if unknown:
        raise SeismogradError(
            say(
                "{path}: [tool.seismograd] has no setting {name}",
                path=str(path),
                name=repr(unknown[0]),
            ),
            say("available names: {names}", names=", ".join(KEYS)),
        )
    thresholds = table.get("thresholds", {})
    if not isinstance(thresholds, dict) or not all(
        isinstance(each, dict)
        for each in thresholds.values()  # pyright: ignore[reportUnknownVariableType]
    ):
        raise SeismogradError(
            say("{path}: thresholds must be tables of numbers, one table per rule", path=str(path)),
            say("write [tool.seismograd.thresholds.SG101]"),
        )
    settings = ProjectSettings(
        *(_listed(path, table, key) for key in KEYS[:3]),
        thresholds=thresholds,  # pyright: ignore[reportUnknownArgumentType]
        out=_folder_url(path, table.get("out")),
    )
    _check(path, settings)
    return settings


def _folder_url(path: Path, given: object) -> str | None:
    if given is None or (isinstance(given, str) and "://" in given):
        return given
    raise SeismogradError(
        say("{path}: out must be the URL of a folder", path=str(path)),
        say('write out = "s3://bucket/runs/"'),
    )


def _check(path: Path, settings: ProjectSettings) -> None:
    """Reject what no run could use, naming the file: the command line may hold the same words."""
    parts: list[tuple[str, dict[str, Any]]] = [
        ("select", {"select": settings.select}),
        ("ignore", {"ignore": settings.ignore}),
        ("select, ignore", {"select": settings.select, "ignore": settings.ignore}),
        ("halt-on", {"halting": settings.halting}),
        *(
            (f"thresholds.{rule}", {"thresholds": {rule: given}})
            for rule, given in settings.thresholds.items()
        ),
    ]
    for key, part in parts:
        try:
            select_rules(**part)
        except SeismogradError as error:
            where = {
                "path": str(path),
                "key": f"tool.seismograd.{key}",
                "problem": error.message.render(),
            }
            raise SeismogradError(Message("{path}: {key}: {problem}", where), error.hint) from error


def _listed(path: Path, table: dict[str, Any], key: str) -> tuple[str, ...]:
    given: Any = table.get(key, ())
    words: list[Any] = (
        [given]
        if isinstance(given, str)
        else list(given)  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(given, list | tuple)
        else [None]
    )
    if not all(isinstance(word, str) for word in words):
        raise SeismogradError(
            say("{path}: {name} must be a list of rules", path=str(path), name=key),
            say('write {name} = ["SG101", "SG3"]', name=key),
        )
    return tuple(words)
