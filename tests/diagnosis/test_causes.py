from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.diagnosis.causes import by_cause, reading_order
from seismograd.diagnosis.engine import absorbs_of
from seismograd.rules import RULES
from seismograd.schema import SEVERITIES, Finding
from tests.synthetic import finding

ABSORBS = absorbs_of(RULES)

findings = st.lists(
    st.builds(
        lambda code, severity, optimizer, first_step: finding(
            code=code,
            severity=severity,
            optimizer=optimizer,
            first_step=first_step,
            last_step=first_step,
        ),
        st.sampled_from([*(rule.code for rule in RULES), "SG103", "SG107", "SG202"]),
        st.sampled_from(SEVERITIES),
        st.integers(-1, 2),
        st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda each: (each.code, each.optimizer),
)


def brief(found: tuple[Finding, ...]) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(each.code, each.optimizer, each.related) for each in found]


def test_a_cause_takes_in_what_begins_with_it_or_later() -> None:
    found = [finding(code="SG201", first_step=5), finding(code="SG102", first_step=5)]
    assert brief(by_cause(found, ABSORBS)) == [("SG102", 0, ("SG201",))]


@pytest.mark.parametrize(
    ("cause", "symptom"), [("SG110", "SG104"), ("SG109", "SG111"), ("SG109", "SG112")]
)
def test_what_keeps_a_layer_from_learning_explains_how_it_looks(cause: str, symptom: str) -> None:
    found = [finding(code=symptom, first_step=0), finding(code=cause, first_step=0)]
    assert brief(by_cause(found, ABSORBS)) == [(cause, 0, (symptom,))]


def test_what_began_before_it_has_another_cause() -> None:
    found = [finding(code="SG201", first_step=4), finding(code="SG102", first_step=5)]
    assert brief(by_cause(found, ABSORBS)) == [("SG201", 0, ()), ("SG102", 0, ())]


def test_another_optimizer_has_causes_of_its_own() -> None:
    found = [
        finding(code="SG301", optimizer=0, first_step=1),
        finding(code="SG102", optimizer=1, first_step=5),
    ]
    assert len(by_cause(found, ABSORBS)) == 2


def test_nonfinite_values_reach_other_optimizers() -> None:
    found = [
        finding(code="SG102", optimizer=0, first_step=1),
        finding(code="SG201", optimizer=1, first_step=5),
    ]
    assert brief(by_cause(found, ABSORBS)) == [("SG102", 0, ("SG201",))]


def test_a_chain_of_causes_has_one_root() -> None:
    found = [
        finding(code="SG201", first_step=9),
        finding(code="SG102", first_step=5),
        finding(code="SG301", first_step=1),
    ]
    assert brief(by_cause(found, ABSORBS)) == [("SG301", 0, ("SG102", "SG201"))]


@given(findings)
def test_every_code_is_kept_as_a_finding_or_related_to_one(found: list[Finding]) -> None:
    roots = by_cause(found, ABSORBS)
    kept = {each.code for each in roots} | {code for each in roots for code in each.related}
    assert kept == {each.code for each in found}


@given(findings)
def test_no_root_is_explained_by_another(found: list[Finding]) -> None:
    roots = by_cause(found, ABSORBS)
    for cause in roots:
        for symptom in roots:
            explains = (
                symptom.code in ABSORBS.get((cause.code, cause.severity), ())
                and symptom.first_step >= cause.first_step
            )
            assert not (explains and cause.optimizer == symptom.optimizer)


@given(findings, st.randoms())
def test_the_order_in_which_they_were_found_makes_no_difference(
    found: list[Finding], random
) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(found)
    random.shuffle(shuffled)
    assert by_cause(shuffled, ABSORBS) == by_cause(found, ABSORBS)
    assert list(by_cause(found, ABSORBS)) == sorted(by_cause(found, ABSORBS), key=reading_order)


def test_what_only_a_finding_of_usual_severity_explains_is_kept_beside_a_lesser_one() -> None:
    high = finding(code="SG107", severity="error", optimizer=0, first_step=0, last_step=9)
    for severity, codes in (("warning", ["SG501"]), ("info", ["SG107", "SG501"])):
        clip = finding(code="SG501", severity=severity, optimizer=0, first_step=0, last_step=9)
        assert [each.code for each in by_cause([high, clip], ABSORBS)] == codes
