"""The files that `report` writes: their sizes, and that nothing of a run is taken for markup in
them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from seismograd.cli import main
from seismograd.errors import SeismogradError
from seismograd.i18n import say, use_language
from seismograd.record.reader import open_run
from seismograd.views.page import widget_script
from seismograd.views.page.document import content_policy, document, module, modules
from seismograd.views.page.page_texts import TEXTS
from seismograd.views.page_api.run_source import open_source
from seismograd.views.report.report_formats import REPORT_FORMATS, write_report
from tests.synthetic import block, finding, info, make_parameters, write_run
from tests.views.page import made

PAGE = Path(__file__).parents[2] / "src" / "seismograd" / "views" / "page"


@pytest.mark.parametrize(
    ("num_parameters", "num_steps", "most"),
    [(148, 700, 500_000), (148, 3000, 500_000), (1000, 600, 2_500_000)],
)
def test_a_report_is_small_whatever_the_number_of_steps(
    tmp_path: Path, num_parameters: int, num_steps: int, most: int
) -> None:
    run = open_run(made.large(tmp_path / "run", num_parameters, num_steps))
    assert write_report(open_source(run, going_on=True), tmp_path / "report.html") <= most


@pytest.mark.parametrize("end", REPORT_FORMATS)
def test_a_report_of_every_form_holds_the_findings(tmp_path: Path, end: str) -> None:
    made.troubled(tmp_path / "run")
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / f"x{end}")]) == 0
    text = (tmp_path / f"x{end}").read_text("utf-8")
    if end == ".json":
        content = json.loads(text)
        assert "SG201" in {each["code"] for each in content["findings"]}
        norms = {each["name"]: each["grad_norm"] for each in content["parameters"]}
        assert norms["net.2.weight"]["smallest"] == 0
        assert content["parameters"][1]["steps"]["absent"] == 0
    elif end == ".md":
        assert "SG201" in text
        assert "| net.5.bias |" in text


def test_markdown_takes_nothing_for_markup(tmp_path: Path) -> None:
    write_report(open_source(open_run(made.hostile(tmp_path / "run"))), tmp_path / "x.md")
    text = (tmp_path / "x.md").read_text("utf-8")
    assert re.search(r"(?<!\\)<", text) is None
    assert re.search(r"(?<!\\)`x", text) is None
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6, 7}


@pytest.mark.parametrize(
    "name",
    [
        "http://evil.example/x",
        "HTTPS://evil.example",
        "www.evil.example",
        "me@evil.example",
        "@somebody",
        "`@somebody`|x",
        "a/@team,www.x.y",
    ],
)
def test_markdown_makes_links_of_no_names(tmp_path: Path, name: str) -> None:
    """GitHub makes links of bare addresses, and calls who is named."""
    told = finding(cause=say("{name} is small", name=name), where=f"{name}:3", parameters=(name,))
    parameters = make_parameters(names=(name,))
    run = write_run(
        tmp_path / "run",
        [block(np.ones((12, 1)), parameters=parameters)],
        run_info=info(script=name),
        findings=[told],
    )
    write_report(open_source(open_run(run)), tmp_path / "x.md")
    text = (tmp_path / "x.md").read_text("utf-8")
    without_code = re.sub(r"`[^`\n]*`", "", text)
    for link in (r"(?<!\\)://", r"www\.", r"@"):
        assert re.search(link, without_code, re.IGNORECASE) is None, link
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {6, 7}


def test_data_cannot_end_its_element(tmp_path: Path) -> None:
    page = document("report", "</title><script>alert(1)</script>@DATA@", "AAAA")
    assert page.count("<script>") == 1
    assert page.count('id="data"') == 1
    write_report(open_source(open_run(made.hostile(tmp_path / "run"))), tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text("utf-8").count("</script>") == 4


@pytest.mark.parametrize("mode", ["view", "report"])
def test_the_policy_allows_no_inline_code_but_ours(mode: str) -> None:
    policy = content_policy(mode)
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == 2


@pytest.mark.parametrize(
    ("name", "complaint"), [("x.pdf", "form"), ("x", "form"), ("nowhere/x.html", "cannot write")]
)
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str, complaint: str) -> None:
    source = open_source(open_run(made.simple(tmp_path / "run", [[1.0]])))
    with use_language("en"), pytest.raises(SeismogradError, match=complaint):
        write_report(source, tmp_path / name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run"]


def test_every_text_of_the_scripts_is_there_and_no_other() -> None:
    script = "".join(module(name) for name in {*modules(), *modules(widget_script.ENTRY)})
    used = set(re.findall(r'\bT\("(\w+)"', script))
    begun = tuple({*re.findall(r"\bT\(`(\w+?)\$\{", script), "sort_", "group_"})
    assert used - TEXTS.keys() == set()
    assert {
        key
        for key in TEXTS
        if key not in used and not key.startswith(begun) and f'"{key}"' not in script
    } == set()


def test_scripts_use_no_markup_and_no_evaluation() -> None:
    for name in modules():
        assert (
            re.findall(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new "
                r"Function|https?://",
                module(name),
            )
            == []
        )


def test_what_is_vendored_is_as_it_came() -> None:
    import hashlib

    for line in (PAGE / "vendor" / "CHECKSUMS").read_text("utf-8").splitlines()[1:]:
        kind, wanted, name = line.split()
        assert hashlib.new(kind, (PAGE / "vendor" / name).read_bytes()).hexdigest() == wanted


def test_a_report_of_a_run_that_goes_on_says_so(tmp_path: Path) -> None:
    import base64
    import gzip

    from seismograd.views.page_api.packing import unpack
    from tests.synthetic import block, write_run

    write_run(tmp_path / "run", [block([[1.0]] * 3)], ended=False)
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "x.html")]) == 0
    found = re.search(r'id="data">([^<]+)<', (tmp_path / "x.html").read_text("utf-8"))
    assert found
    header, arrays = unpack(gzip.decompress(base64.b64decode(found[1])))
    offset, length = header["answers"]["meta"]  # type: ignore[index]
    meta, _ = unpack(arrays["bytes"][offset : offset + length].tobytes())
    assert meta["run"]["state"] == "live"  # type: ignore[index]
