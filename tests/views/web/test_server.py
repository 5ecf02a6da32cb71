"""The server answers whom it should, only what it should, and nothing that it need not say."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seismograd.views.page_api.packing import unpack
from tests.synthetic import block, write_run
from tests.views.page import made

pytest.importorskip("starlette", reason="the extra `view` is not installed")
pytest.importorskip("sse_starlette", reason="the extra `view` is not installed")
testclient = pytest.importorskip(
    "starlette.testclient", reason="httpx is not installed", exc_type=(ImportError, RuntimeError)
)  # type: ignore[call-overload]

from seismograd.views.web.app import QUESTIONS, create_app  # noqa: E402
from seismograd.views.web.run_cache import RunCache  # noqa: E402

TOKEN_VALUE = "a-token"
HOME = "http://127.0.0.1:7878"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("very_secret_place") / "runs"
    made.troubled(directory / "a")
    write_run(directory / "b", [block([[1.0, 2.0]] * 5)], ended=False)
    (directory / "no_run").mkdir()
    return directory


@pytest.fixture
def stranger(runs: Path) -> Iterator[Any]:
    """A client that has shown nothing yet."""
    app = create_app(RunCache(runs), TOKEN_VALUE, "127.0.0.1", (), 7878)
    return testclient.TestClient(app, base_url=HOME, follow_redirects=False)


@pytest.fixture
def client(stranger: Any) -> Any:
    answer = stranger.get(f"/?token={TOKEN_VALUE}")
    assert answer.status_code == 303
    return stranger


EVERYWHERE = ["/", "/runs", "/run/0/live", *(f"/run/0/{question}" for question in QUESTIONS)]


def test_the_token_is_traded_for_a_cookie_that_no_script_reads(stranger: Any) -> None:
    answer = stranger.get(f"/?token={TOKEN_VALUE}&run=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?run=1")
    cookie = answer.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "path=/"):
        assert part in cookie
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("path", EVERYWHERE)
def test_nothing_is_answered_without_the_token(stranger: Any, path: str) -> None:
    assert stranger.get(path).status_code == 403
    for wrong in ("", "a-toke", "a-token2", "ä", "%00"):
        assert stranger.get(f"{path}?token={wrong}").status_code == 403
        assert (
            stranger.get(path, headers={"cookie": f"seismograd-7878={wrong}".encode()}).status_code
            == 403
        )
    assert stranger.get(f"/?token={TOKEN_VALUE}&token={TOKEN_VALUE}").status_code == 403
    if path != "/":  # the token counts in one place only
        assert stranger.get(f"{path}?token={TOKEN_VALUE}").status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7878",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "",
        "[::1",
        "0.0.0.0",
        "192.168.0.7",
    ],
)
def test_another_name_is_refused_even_with_the_cookie(client: Any, host: str) -> None:
    for path in EVERYWHERE:
        assert client.get(path, headers={"host": host}).status_code == 421
    assert client.get(f"/?token={TOKEN_VALUE}", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:7878",
        "localhost:7878",
        "LOCALHOST:9000",
        "127.0.0.1:5555",
        "localhost",
        "[::1]:7878",
        "localhost.:1",
    ],
)
def test_this_machine_is_known_under_its_names_at_any_port(client: Any, host: str) -> None:
    assert (
        client.get(
            "/runs", headers={"host": host, "cookie": f"seismograd-7878={TOKEN_VALUE}"}
        ).status_code
        == 200
    )


def test_who_listens_widely_is_known_by_address_and_by_the_names_given(runs: Path) -> None:
    app = create_app(RunCache(runs), TOKEN_VALUE, "0.0.0.0", ("node7",), 7878)
    client = testclient.TestClient(
        app, base_url=HOME, follow_redirects=False, cookies={"seismograd-7878": TOKEN_VALUE}
    )
    statuses = {
        host: client.get("/runs", headers={"host": host}).status_code
        for host in ("192.168.0.7:80", "node7:80", "evil.example")
    }
    assert statuses == {"192.168.0.7:80": 200, "node7:80": 200, "evil.example": 421}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_is_answered(client: Any, method: str) -> None:
    for path in EVERYWHERE:
        assert client.request(method, path).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/run/99/meta",
        "/run/-1/meta",
        "/run/a/meta",
        "/run/0x0/meta",
        "/run/0/",
        "/run/0/nothing",
        "/run/0/meta/",
        "/run/0",
        "/runs/",
        "/run/0/%2e%2e/1/meta/",
        "/..%2f..%2fetc/passwd",
        "/run/..%2f..%2fetc%2fpasswd/meta",
        "/static/page.js",
        "/page.css",
        "/meta.json",
        "/run//0/meta",
        "/favicon.ico",
        "/docs",
        "/openapi.json",
        "/run/99999999999999999999/meta",
        "/run/0/meta%00",
    ],
)
def test_what_is_no_route_is_not_found(client: Any, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "query", ["start=x", "row=1e9", "column=", "start=1.5", "which=__class__", "statistic=../../x"]
)
def test_a_bad_number_is_a_bad_question(client: Any, query: str) -> None:
    assert client.get(f"/run/0/heat?{query}").status_code == 400


@pytest.mark.parametrize("path", [*EVERYWHERE[:2], "/run/0/meta", "/nowhere", "/run/9/meta"])
def test_every_answer_carries_the_policy(client: Any, path: str) -> None:
    for answer in (
        client.get(path),
        client.get(path, headers={"host": "evil.example"}),
        client.post(path),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers


def test_nothing_tells_where_the_runs_lie(client: Any) -> None:
    for path in (
        "/",
        "/runs",
        *(f"/run/{index}/{question}" for index in (0, 1, 9) for question in QUESTIONS),
    ):
        assert b"very_secret_place" not in client.get(path).content


def test_the_answers_are_those_of_the_record(client: Any) -> None:
    listed = client.get("/runs").json()
    assert listed["only"] is None
    by_name = {each["name"]: each for each in listed["runs"]}
    assert set(by_name) == {"a", "b"}
    assert (by_name["a"]["state"], by_name["a"]["rows"], by_name["b"]["state"]) == (
        "ended",
        100,
        "live",
    )
    course = by_name["a"]["course"]
    assert by_name["a"]["loss"] == course[-1] == pytest.approx(2 * 0.99**99)
    assert "nan" in course  # the step whose loss was not finite is never left out
    header, arrays = unpack(
        client.get(f"/run/{by_name['a']['index']}/heat?start=0&stop=100&width=100").content
    )
    assert arrays["codes"].shape == (12, 100)
    assert header["statistic"] == "grad_norm"


def test_an_index_stays_when_runs_come_and_go(tmp_path: Path) -> None:
    write_run(tmp_path / "m", [block([[1.0]])])
    run_cache = RunCache(tmp_path)
    write_run(tmp_path / "a", [block([[1.0]] * 2)])
    assert {each["name"]: each["index"] for each in run_cache.list()} == {"m": 0, "a": 1}
    shutil.rmtree(tmp_path / "m")
    assert {each["name"]: each["index"] for each in run_cache.list()} == {"a": 1}
    assert run_cache.source(1).run.num_rows == 2
    with pytest.raises(LookupError):
        run_cache.source(0)
    shutil.rmtree(tmp_path)
    assert run_cache.list() == []


def test_a_run_that_grows_is_read_again(tmp_path: Path) -> None:
    from seismograd.record.writer import Writer
    from tests import synthetic

    writer = Writer(tmp_path / "run", synthetic.info())
    run_cache = RunCache(tmp_path / "run")
    first = run_cache.news(0)
    writer.observe(block([[1.0]] * 3))
    second = run_cache.news(0)
    writer.close()
    third = run_cache.news(0)
    assert [each.rows for each in (first, second, third)] == [0, 3, 3]
    assert [each.state for each in (first, second, third)] == ["live", "live", "ended"]
    assert len({each.version for each in (first, second, third)}) == 3
    assert run_cache.news(0).state == "ended"


def test_an_answer_is_given_again_until_the_run_grows(tmp_path: Path) -> None:
    from seismograd.record.writer import Writer
    from tests import synthetic

    writer = Writer(tmp_path / "run", synthetic.info())
    run_cache = RunCache(tmp_path / "run")
    writer.observe(block([[1.0]] * 3))
    first = run_cache.answer(0, "heat", {"width": "9"})
    assert run_cache.answer(0, "heat", {"width": "9"}) is first
    writer.observe(block([[1.0]] * 2, first_iteration=3))
    _, arrays = unpack(run_cache.answer(0, "heat", {"width": "9"}))
    assert arrays["codes"].shape == (1, 5)
    writer.close()


def test_small_answers_are_not_held_back_by_the_network() -> None:
    pytest.importorskip("uvicorn", reason="the extra `view` is not installed")
    from seismograd.views.web.server import listen

    with listen("127.0.0.1", 0) as listener:
        # asyncio sets TCP_NODELAY on what such a socket accepts, and on no other
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere does not exist"),
        ([".", "--port", "x"], "use an integer"),
        ([".", "--port", "70000"], "is not a valid port"),
        ([".", "--host", "203.0.113.9"], "cannot listen"),
        (["torn"], "meta.json"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    from seismograd.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "meta.json").write_text("{", "utf-8")
    assert main(["view", *arguments, "--no-open"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert words in said


def test_without_the_packages_it_says_how_to_install_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from seismograd.cli import main

    for name in [name for name in sys.modules if name.startswith("seismograd.views.web.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["view", str(tmp_path), "--no-open"]) == 2
    assert "pip install starlette uvicorn sse-starlette" in capsys.readouterr().err
