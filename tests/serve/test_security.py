"""Who may ask, what they may see, and what they may change."""

import re
import socket
from pathlib import Path

import pytest
from serve_support import ATTACKS, ORIGIN, PORT, TOKEN
from starlette.testclient import TestClient

from tapir.errors import ConfigError, ResumeError, RunError
from tapir.serve import guarded, serve
from tapir.serve.library import Library
from tapir.serve.security import HEADERS, check_loopback, names

PAGES = ("/", "/compare", "/run/one/", "/run/one/rows", "/run/one/threshold", "/run/one/live", "/static/report.css")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.0.9"])
def test_this_machine_may_be_listened_on(host: str) -> None:
    check_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_no_other_machine_may_be_let_in(host: str) -> None:
    with pytest.raises(ConfigError, match="this machine only"):
        check_loopback(host)


def test_names_hold_the_port() -> None:
    assert "127.0.0.1:8732" in names("127.0.0.1", 8732)
    assert "[::1]:1" in names("::1", 1)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "localhost", "evil.example:8732", ""])
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/run/one/", headers={"host": host})
    assert answer.status_code == 403
    assert "TAPIR" not in answer.text


def test_localhost_is_this_server_too(client: TestClient) -> None:
    assert client.get("/run/one/rows", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8732", "http://127.0.0.1:1"])
def test_another_site_may_not_even_read(client: TestClient, origin: str) -> None:
    assert client.get("/run/one/rows", headers={"origin": origin}).status_code == 403


@pytest.mark.parametrize("page", PAGES)
def test_every_answer_carries_the_headers(client: TestClient, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": ORIGIN}, 403),
        ({"origin": ORIGIN, "x-tapir-token": "wrong"}, 403),
        ({"x-tapir-token": TOKEN}, 403),
        ({"origin": "http://evil.example", "x-tapir-token": TOKEN}, 403),
        ({"origin": ORIGIN, "x-tapir-token": TOKEN}, 200),
    ],
)
def test_a_change_needs_the_origin_and_the_token(own_runs: Path, headers: dict[str, str], status: int) -> None:
    client = TestClient(guarded(Library(own_runs), "127.0.0.1", PORT, TOKEN), base_url=ORIGIN)
    assert client.post("/run/two/report", headers=headers).status_code == status
    assert (own_runs / "two" / "report.html").exists() == (status == 200)


def test_reading_changes_nothing(client: TestClient, runs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    for page in (
        *PAGES,
        "/run/one/threshold.json",
        "/run/one/threshold/examples?delta=2",
        "/run/one/rows?q=a&sort=-mfd",
    ):
        assert client.get(page).status_code == 200
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == before
    for method in ("PUT", "DELETE", "PATCH"):
        answer = client.request(method, "/run/one/", headers={"origin": ORIGIN, "x-tapir-token": TOKEN})
        assert answer.status_code == 405


@pytest.mark.parametrize(
    "page",
    [
        "/run/%2e%2e/",
        "/run/..%2f..%2fetc/",
        "/run/one/rows?rows=../../../etc/passwd",
        "/run/one/rows?rows=00-judge/../00-corpus",
        "/run/one/row/..%2f..%2fmanifest.json",
        "/static/..%2fpages.py",
        "/static/base.html",
        "/run/none/",
        "/run/one/row/0",
    ],
)
def test_no_address_leads_out_of_the_run(client: TestClient, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code in (200, 404)
    assert "root:" not in answer.text
    assert "import " not in answer.text
    if answer.status_code == 200:
        assert "There are no such rows" in answer.text


def test_a_link_out_of_the_run_is_not_followed(own_runs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.parquet"
    (own_runs / "two" / "stages" / "00-corpus" / "rows.parquet").rename(secret)
    (own_runs / "two" / "stages" / "00-corpus" / "rows.parquet").symlink_to(secret)
    keys = {one.key for one in Library(own_runs).run("two").sources()}
    assert "00-corpus" not in keys
    assert "00-judge" in keys


def test_a_record_that_names_another_directory_changes_nothing(own_runs: Path) -> None:
    record = own_runs / "two" / "stages" / "00-corpus" / "stage.json"
    record.write_text(record.read_text().replace('"00-corpus"', '"../../../one/stages/00-corpus"'))
    source = Library(own_runs).run("two").source("00-corpus")
    assert source is not None
    assert source.path.is_relative_to(own_runs / "two")


def test_hostile_rows_are_text(client: TestClient) -> None:
    for page in ("/run/one/", "/run/one/rows?rows=00-corpus", "/run/one/threshold/examples?delta=2&task=Law"):
        text = client.get(page).text
        assert "<script>document" not in text
        assert "<img" not in text
        assert 'onload="doc' not in text
        assert "<h1>gone" not in text
        assert not set("\u202e\u2066\u200b\ufeff\x00") & set(text)
    row = re.search(r'/run/one/row/(planted0+)"', client.get("/run/one/rows?rows=00-corpus").text)
    assert row is not None
    page = client.get(f"/run/one/row/{row[1]}").text
    assert "&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt; planted needle" in page
    assert ATTACKS[0] not in page


@pytest.mark.parametrize(
    "query", ["q=<script>alert(1)</script>", 'task="><b>x</b>', "low=<b>", "page=-1", "page=9e9", "round=x"]
)
def test_hostile_queries_are_text(client: TestClient, query: str) -> None:
    answer = client.get(f"/run/one/rows?{query}")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<b>" not in answer.text


def test_errors_say_what_is_wrong_without_a_traceback(client: TestClient) -> None:
    answer = client.get("/run/none/rows")
    assert answer.status_code == 404
    assert "there is no run" in answer.text
    assert "Traceback" not in answer.text
    assert client.get("/run/one/threshold/examples?delta=x").status_code == 404


def test_no_run_and_a_taken_port_are_told_before_anything_starts(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(ResumeError, match="tapir run CONFIG"):
        serve(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunError, match="another port"):
            serve(runs, port=taken.getsockname()[1])
    with pytest.raises(RunError, match=r"127\.0\.0\.1:70000: cannot be listened on \(ports go from 0 to 65535\)"):
        serve(runs, port=70000)
