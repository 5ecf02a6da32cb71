"""Which rules look, and with which thresholds: what may be said, and what is refused with a
mend.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from seismograd.diagnosis.selected_rules import selected_rules
from seismograd.errors import SeismogradError
from seismograd.rules import RULES
from seismograd.settings.project_file import read_settings
from seismograd.settings.rule_selection import RuleSelection, select_rules
from seismograd.settings.rule_table import RULE_TABLE


def codes(selection: RuleSelection) -> list[str]:
    return [make().code for make in selected_rules(selection)]


def test_the_rules_are_known_without_loading_them() -> None:
    known = {rule.code: (rule.name, list(rule().thresholds())) for rule in RULES}
    assert dict(RULE_TABLE) == known, "`make rules` writes the table again"


def test_other_rules_can_be_handed_in() -> None:
    rules = {"SG901": ("tried", ["least"])}
    selection = select_rules(["tried"], thresholds={"SG901": {"least": 2}}, rules=rules)
    assert selection.thresholds_of("SG901") == {"least": 2}
    with pytest.raises(SeismogradError, match="SG101"):
        select_rules(["SG101"], rules=rules)


def test_codes_their_beginnings_and_names_select_and_ignore() -> None:
    everything = [rule.code for rule in RULES]
    assert codes(select_rules()) == everything
    assert codes(select_rules(["sg3"], ["SG301"])) == [
        code for code in everything if code.startswith("SG3") and code != "SG301"
    ]
    assert codes(select_rules(["vanishing-gradient, SG201"])) == ["SG101", "SG201"]
    assert codes(select_rules(ignore=["SG1,SG2"])) == [
        code for code in everything if code[:3] not in ("SG1", "SG2")
    ]


def test_a_threshold_reaches_its_rule_and_no_other() -> None:
    field = RULE_TABLE["SG301"][1][0]
    made = {
        rule.code: rule
        for rule in (
            make()
            for make in selected_rules(select_rules(thresholds={"missing-zero-grad": {field: 7}}))
        )
    }
    assert made["SG301"].thresholds()[field] == 7
    assert made["SG101"].thresholds() == RULES[0]().thresholds()


@pytest.mark.parametrize(
    ("select", "ignore", "thresholds", "said"),
    [
        (["SG999"], [], {}, "unknown rule 'SG999' · `seismograd rules` lists all rules"),
        (["SG2011"], [], {}, "did you mean SG201?"),
        (["zero-grad"], [], {}, "did you mean zero-gradient?"),
        (["forgot-zero-grad"], [], {}, "did you mean missing-zero-grad?"),
        (["learning"], [], {}, "unknown rule 'learning' · `seismograd rules` lists all rules"),
        (["vanishing"], [], {}, "vanishing-gradient"),
        ([], ["SG"], {}, "no rules are left"),
        ([], [], {"SG301": {"nonsense": 1}}, "no threshold 'nonsense'"),
        ([], [], {"SG301": {"min_scattered": "many"}}, "not a number"),
        ([], [], {"SG301": {"min_scattered": True}}, "not a number"),
        ([], [], {"SG301": {"min_scattered": float("nan")}}, "not a number"),
        ([], [], {"SG000": {}}, "unknown rule 'SG000'"),
    ],
)
def test_what_does_not_exist_is_refused(
    select: list[str], ignore: list[str], thresholds: dict[str, dict[str, float]], said: str
) -> None:
    with pytest.raises(SeismogradError) as raised:
        select_rules(select, ignore, thresholds)
    assert said in raised.value.line()
    assert raised.value.exit_code == 2
    assert raised.value.hint is not None


def test_the_settings_of_the_nearest_project_hold_in_its_folders(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    (tmp_path / "pyproject.toml").write_text(
        '[tool.seismograd]\nselect = ["SG3"]\nignore = "SG301"\nhalt-on = ["error"]\n'
        "[tool.seismograd.thresholds.SG301]\nmin_scattered = 9\n"
    )
    settings = read_settings(inner)
    assert (settings.select, settings.ignore, settings.halting) == (
        ("SG3",),
        ("SG301",),
        ("error",),
    )
    selection = settings.selection(["SG1", "SG301"], None)
    assert codes(selection) == [rule.code for rule in RULES if rule.code.startswith("SG1")]
    assert selection.thresholds_of("SG301") == {"min_scattered": 9}
    assert selection.stops_on("SG999", "error")
    assert not selection.stops_on("SG301", "warning")


def test_the_beginning_of_codes_halts_as_it_selects() -> None:
    selection = select_rules(halting=["SG30,nonfinite-loss"])
    assert selection.stops_on("SG301", "warning")
    assert selection.stops_on("SG202", "warning")
    assert not selection.stops_on("SG201", "error")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.seismograd]\nslect = []\n", "'slect'"),
        ("[tool.seismograd]\nselect = 3\n", "list of rules"),
        ("[tool.seismograd]\nthresholds = 3\n", "tables of numbers"),
        ("[tool.seismograd\n", "not valid TOML"),
        ('[tool]\nseismograd = "SG1"\n', "must be a table"),
        (
            '[tool.seismograd]\nselect = ["SG301", "SG999"]\n',
            "pyproject.toml: tool.seismograd.select: unknown rule 'SG999'",
        ),
        (
            '[tool.seismograd]\nignore = "nothing"\n',
            "tool.seismograd.ignore: unknown rule 'nothing'",
        ),
        (
            '[tool.seismograd]\nselect = "SG3"\nignore = "SG3"\n',
            "tool.seismograd.select, ignore: no rules are left",
        ),
        (
            '[tool.seismograd]\nhalt-on = ["eror"]\n',
            "tool.seismograd.halt-on: unknown rule 'eror'",
        ),
        (
            "[tool.seismograd.thresholds.SG999]\n",
            "tool.seismograd.thresholds.SG999: unknown rule 'SG999'",
        ),
        (
            "[tool.seismograd.thresholds.SG301]\nmin_scattered = nan\n",
            "tool.seismograd.thresholds.SG301: min_scattered",
        ),
        (
            "[tool.seismograd.thresholds.SG301]\nmin = 3\n",
            "tool.seismograd.thresholds.SG301: SG301 has no threshold 'min'",
        ),
    ],
)
def test_a_setting_that_cannot_be_understood_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(SeismogradError, match="pyproject") as raised:
        read_settings(tmp_path)
    assert said in raised.value.line()
