"""Select rules, and set thresholds that differ from the defaults. Checking a selection loads
neither NumPy nor a rule, because `seismograd run` does so before the script starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.settings.added_rules import added_codes
from seismograd.settings.rule_table import RULE_TABLE, RuleTable

ERROR = "error"  # in `halting`: any finding that is an error


@dataclass(frozen=True, slots=True)
class RuleSelection:
    """The rules to run: those of `select` (all when it is empty) without those of `ignore`, by
    code, the beginning of a code, or name.

    `thresholds` are (code, field, value). `halting` are the codes whose findings stop the training,
    or `"error"`. `added` are the codes of rules of other packages that `select` names.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: tuple[tuple[str, str, float], ...] = ()
    halting: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def includes(self, code: str, name: str) -> bool:
        """Return whether the rule of this code and name should run."""
        selected = not self.select or any(_means(word, code, name) for word in self.select)
        return selected and not any(_means(word, code, name) for word in self.ignore)

    def thresholds_of(self, code: str) -> dict[str, float]:
        """Return the thresholds of a rule that differ from the defaults."""
        return {field: value for owner, field, value in self.thresholds if owner == code}

    def stops_on(self, code: str, severity: str) -> bool:
        """Return whether a finding of this rule stops the training."""
        return (ERROR in self.halting and severity == ERROR) or code in self.halting


def select_rules(
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    halting: Iterable[str] = (),
    rules: RuleTable = RULE_TABLE,
) -> RuleSelection:
    """Return a selection of `rules`; one text may hold several words, separated by commas.

    Raises:
        SeismogradError: a word is no rule, a threshold is unknown or not a number, or no rule is
            left.
    """
    select, ignore, halting, own = _words(select), _words(ignore), _words(halting), thresholds or {}
    known = {code: name for code, (name, _) in rules.items()}
    added = _added((*select, *ignore, *halting, *own), known)
    known |= {code: code.lower() for code in added}
    selection = RuleSelection(
        tuple(_checked(word, known) for word in select),
        tuple(_checked(word, known) for word in ignore),
        tuple(
            each
            for rule, given in own.items()
            for each in _thresholds(_code(rule, known), given, rules)
        ),
        tuple(
            each
            for word in halting
            for each in ((ERROR,) if word == ERROR else _codes(word, known))
        ),
        tuple(each for each in added if any(_means(word.upper(), each, "") for word in select)),
    )
    runs = {code: known[code] for code in (*rules, *selection.added)}
    if not any(selection.includes(code, name) for code, name in runs.items()):
        raise SeismogradError(
            say("no rules are left to run"),
            say("select more rules or ignore fewer; `seismograd rules` lists all of them"),
        )
    return selection


def _words(texts: Iterable[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _added(words: Iterable[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return the codes of rules of other packages that these words mean, where they mean none of
    seismograd's own.
    """
    found: dict[str, None] = {}
    for word in words:
        candidates = word.upper(), word.lower()
        if word != ERROR and not any(
            _means(each, code, name) for each in candidates for code, name in known.items()
        ):
            found |= dict.fromkeys(added_codes(word))
    return tuple(found)


def _means(word: str, code: str, name: str) -> bool:
    return code.startswith(word) or name == word


def _checked(word: str, known: Mapping[str, str]) -> str:
    """Return a code, the beginning of one, or a name in its canonical form."""
    for candidate in (word.upper(), word.lower()):
        if any(_means(candidate, code, name) for code, name in known.items()):
            return candidate
    raise _no_such_rule(word, known)


def _codes(word: str, known: Mapping[str, str]) -> list[str]:
    meant = _checked(word, known)
    return [code for code, name in known.items() if _means(meant, code, name)]


def _code(word: str, known: Mapping[str, str]) -> str:
    for code, name in known.items():
        if word.upper() == code or word.lower() == name:
            return code
    raise _no_such_rule(word, known)


def nearest_rule(word: str, known: Mapping[str, str]) -> str | None:
    """Return the code or the name closest to a misspelled word; `None` where none is close.

    Every two codes share half their characters, so only one that differs in a single character is
    close to another.
    """
    wanted = word.strip().lower()
    codes = get_close_matches(wanted, [code.lower() for code in known], n=1, cutoff=0.8)
    if codes:
        return codes[0].upper()
    names = get_close_matches(wanted, known.values(), n=1, cutoff=0.6)
    return names[0] if names else None


def _no_such_rule(word: str, known: Mapping[str, str]) -> SeismogradError:
    near = nearest_rule(word, known)
    problem = say("unknown rule {rule}", rule=repr(word))
    if near is None:
        return SeismogradError(problem, say("`seismograd rules` lists all rules"))
    return SeismogradError(
        problem, say("did you mean {name}? `seismograd rules` lists all rules", name=near)
    )


def _thresholds(
    code: str, given: Mapping[str, float], rules: RuleTable
) -> Iterable[tuple[str, str, float]]:
    fields = rules[code][1] if code in rules else None  # not known before it is loaded
    for field, value in given.items():
        if fields is not None and field not in fields:
            raise SeismogradError(
                say("{code} has no threshold {name}", code=code, name=repr(field)),
                say("available names: {names}", names=", ".join(fields))
                if fields
                else say("it has no thresholds"),
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)  # pyright: ignore[reportUnnecessaryIsInstance]
            or not math.isfinite(value)
        ):
            raise SeismogradError(
                say(
                    "{name} of {code} is not a number: {value}",
                    code=code,
                    name=field,
                    value=repr(value),
                ),
                say("use a number"),
            )
        yield code, field, value
