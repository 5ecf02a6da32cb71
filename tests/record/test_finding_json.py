"""Findings and messages pass through strict JSON unchanged; of a finding that grew, the last
version counts.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd import open_run
from seismograd.i18n import Message, say
from seismograd.printable import printable
from seismograd.record.finding_json import (
    current_findings,
    finding_from_json,
    finding_to_json,
    message_from_json,
    message_to_json,
)
from seismograd.record.strict_json import dumps, loads, number
from seismograd.record.writer import Writer
from seismograd.schema import SEVERITIES, Conclusion, Evidence, Finding
from tests import synthetic

words = st.text(max_size=8).map(printable)
numbers = st.floats()
# A message of the package: each place in its template has a value.
values = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}", fullmatch=True), words | numbers | st.integers(), max_size=3
)
messages = values.map(
    lambda given: Message("text " + " ".join(f"{{{name}}}" for name in given), given)
)
findings = st.builds(
    Finding,
    code=words,
    name=words,
    severity=st.sampled_from(SEVERITIES),
    optimizer=st.integers(-1, 5),
    first_step=st.integers(0, 2**53),
    last_step=st.integers(0, 2**53),
    parameters=st.lists(words, max_size=3).map(tuple),
    evidence=st.lists(
        st.builds(Evidence, words, words, st.integers(0, 9), numbers, numbers), max_size=2
    ).map(tuple),
    cause=messages,
    advice=messages,
    where=words,
    excerpt=words,
    related=st.lists(words, max_size=2).map(tuple),
)


def strictly(text: bytes) -> object:
    """The value, if it is JSON to the letter."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text.decode("utf-8"), parse_constant=refuse)


@given(findings)
def test_a_finding_is_the_same_after_strict_json(finding: Finding) -> None:
    # repr: NaN equals itself, -0.0 is not 0.0
    assert repr(finding_from_json(strictly(dumps(finding_to_json(finding))))) == repr(finding)


@given(messages)
def test_a_message_keeps_the_type_of_its_values(message: Message) -> None:
    assert repr(message_from_json(strictly(dumps(message_to_json(message))))) == repr(message)


def test_a_nan_among_the_values_still_formats_and_a_word_nan_stays_a_word() -> None:
    message = say("{norm:.2g} {word}", norm=math.nan, word="nan")
    assert message_from_json(loads(dumps(message_to_json(message)))).render() == "nan nan"


def test_numpy_scalars_are_numbers() -> None:
    message = say("{a:.1f} {b:d} {c:.1f}", a=np.float32(0.5), b=np.int64(3), c=np.float32("inf"))
    assert message_from_json(loads(dumps(message_to_json(message)))).render() == "0.5 3 inf"


@given(numbers)
def test_any_float_is_read_back(value: float) -> None:
    assert repr(number(strictly(dumps(value)))) == repr(value)


def test_words_instead_of_messages_where_they_are_asked_for() -> None:
    assert (
        finding_to_json(synthetic.finding(), text=Message.render)["cause"]
        == "net.0.weight has a NaN at step 3"
    )


def test_a_finding_that_grew_counts_once_and_keeps_its_place() -> None:
    first = synthetic.finding(parameters=("a", "b"), last_step=3)
    other = synthetic.finding(code="SG101")
    apart = synthetic.finding(parameters=("z",))
    grown = synthetic.finding(parameters=("b", "c"), last_step=9, severity="warning")
    later = synthetic.finding(parameters=("a",), first_step=20, last_step=20)
    assert current_findings([first, other, apart, grown, later]) == (grown, other, apart, later)


def test_a_finding_that_joins_two_takes_the_place_of_both() -> None:
    one, two, both = (synthetic.finding(parameters=names) for names in (("a",), ("b",), ("a", "b")))
    assert current_findings([one, two, both]) == (both,)


def test_findings_of_the_whole_step_without_parameters_are_versions_too() -> None:
    first, grown = (
        synthetic.finding(parameters=(), last_step=3),
        synthetic.finding(parameters=(), last_step=8),
    )
    assert current_findings([first, grown]) == (grown,)


def test_the_concluding_list_takes_the_place_of_all_before(tmp_path: Path) -> None:
    symptom, cause = synthetic.finding(), synthetic.finding(code="SG102", related=("SG201",))
    writer = Writer(tmp_path / "run", synthetic.info())
    writer.finding(symptom)
    writer.finding(cause)
    writer.conclude(Conclusion((cause,)))
    writer.close()
    assert open_run(tmp_path / "run").findings == (cause,)
