"""The page under attack: other sites, odd requests, huge and many ones. The answer is a clear 4xx in JSON, and nothing breaks."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augserver.config import parse_config
from augserver.errors import ConfigError, StateError
from augserver.web import bodies
from augserver.web.guard import is_own_host
from augserver.web.page import check_page

GOOD: dict[str, Any] = {"recipe": {"window": {"low": 0, "high": 100}}, "volume": "case_1", "patch": [8, 8, 8], "seed": 1, "count": 1}
JSON = {"Content-Type": "application/json"}


def ask(
    shown: Any, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request, whose path is sent as it is."""
    host, _, port = shown.url.removeprefix("http://").partition("/")[0].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def refused(shown: Any, status: int, *request: Any, **options: Any) -> str:
    """The message of a request that must be refused with this status; it says nothing of the inside."""
    got, headers, body = ask(shown, *request, **options)
    assert (got, headers["content-type"]) == (status, "application/json"), body[:300]
    text = json.loads(body)["error"]["message"]
    assert text
    assert "Traceback" not in text
    assert str(shown.dataset.path) not in body.decode()
    return text


def sheet(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_every_answer_forbids_foreign_scripts_frames_and_caches(shown: Any) -> None:
    for method, path, body in (("GET", "/", None), ("GET", "/api/live", None), ("GET", "/nothing", None), ("POST", "/api/sheet", sheet())):
        _, headers, _ = ask(shown, method, path, body, JSON)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "",
        "192.0.2.7",
        "[2001:db8::1]:80",
        "localhost:80@evil",
        "127.0.0.1:x",
    ],
)
def test_a_name_that_others_made_to_point_here_is_refused(shown: Any, host: str) -> None:
    refused(shown, 421, "GET", "/api/dataset", headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "127.8.8.8", "[::1]", "[::1]:8080"])
def test_loopback_is_ours_through_any_tunnel(shown: Any, host: str) -> None:
    assert ask(shown, "GET", "/api/dataset", headers={"Host": host})[0] == 200


def test_an_open_page_takes_addresses_and_its_own_name_only() -> None:
    assert is_own_host("192.0.2.7:8080", loopback_only=False)
    assert is_own_host(socket.gethostname().upper(), loopback_only=False)
    assert not is_own_host("evil.example", loopback_only=False)


def test_requests_of_other_sites_are_refused(shown: Any) -> None:
    cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    refused(shown, 403, "GET", "/api/volumes/case_1/thumbnail", headers=cross)
    refused(shown, 403, "POST", "/api/sheet", body=sheet(), headers=JSON | cross)
    assert ask(shown, "GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[0] == 200  # a link
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):  # what a form can send
        refused(shown, 400, "POST", "/api/sheet", body=sheet(), headers={"Content-Type": kind})


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_nothing_can_be_changed(shown: Any, method: str) -> None:
    refused(shown, 405, method, "/api/dataset")
    refused(shown, 405, "POST", "/api/dataset", headers=JSON)
    refused(shown, 405, "GET", "/api/sheet")


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..\\app.py",
        "....//app.py",
        "%2e%2e%2f%2e%2e%2fconfig.py",
        "/etc/passwd",
        "%00",
        "js",
        "js/",
    ],
)
def test_static_files_are_those_of_the_folder(shown: Any, path: str) -> None:
    refused(shown, 404, "GET", f"/static/{path}")
    refused(shown, 404, "GET", f"/static/js/../../{path}")


@pytest.mark.parametrize(
    "path",
    [
        "no/planes/z/0",
        "case_1/planes/w/0",
        "case_1/planes/z/-1",
        "case_1/planes/z/24",
        "case_1/planes/z/9999999999999",
        "case_1/planes/z/1.5",
        "case_1/planes/z/0?channel=1",
        "case_1/planes/z/0?channel=x",
        "..%2f..%2fetc/thumbnail",
        f"{'a' * 5000}/thumbnail",
    ],
)
def test_volumes_and_planes_that_are_not_there_are_refused(shown: Any, path: str) -> None:
    status, _, body = ask(shown, "GET", f"/api/volumes/{path}")
    assert status in (400, 404), body
    assert json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"a":' * 10_000, "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "recipe: got None"),
        (sheet(seed="1"), "seed: got '1'"),
        (sheet(seed=True), "seed: got True"),
        (sheet(seed=-1), "seed: got -1"),
        (sheet(seed=1 << 70), "seed: got"),
        (sheet().replace(b'"seed": 1', b'"seed": NaN'), "NaN is no JSON number"),
        (sheet().replace(b'"seed": 1', b'"seed": ' + b"9" * 5000), "not JSON"),
        (sheet(more=1), "unknown field 'more'"),
        (sheet(count=0), "count: got 0; allowed: 1 to 8"),
        (sheet(count=9), "count: got 9; allowed: 1 to 8"),
        (sheet(patch=[8, 8]), "patch: got (8, 8)"),
        (sheet(patch=[8] * 10_000), "patch"),
        (sheet(patch=[0, 8, 8]), "each at least 1"),
        (sheet(patch=[1e9, 8, 8]), "three whole numbers"),
        (sheet(patch=[10**9, 10**9, 10**9]), "allowed: 8000000"),
        (sheet(volume="../../etc/passwd"), "no volume '../../etc/passwd'"),
        (sheet(volume="x" * 300), "got an id of 300 characters"),
        (sheet(recipe={"x" * 5000: {}}), "got a key of 5000 characters"),
        (sheet(recipe={"affin": {}}), "unknown recipe key 'affin'; did you mean 'affine'"),
        (sheet(recipe={"affine": {"scale": 1e400}}), "not JSON"),
        (sheet(recipe={"noise": {"std": [5, 1]}}), "noise.std: got [5, 1], which is reversed"),
        (sheet(recipe={"labels": {"keep": ["\ud800"]}}), "labels.keep"),
        (sheet(recipe=[]), "recipe: got []"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(shown: Any, body: bytes, words: str) -> None:
    for path in ("/api/sheet", "/api/sample"):
        if path == "/api/sheet" or not words.startswith("count"):
            assert words in refused(shown, 400 if not words.startswith("no volume") else 404, "POST", path, body=body, headers=JSON)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
recipes = st.dictionaries(
    st.sampled_from(["crop", "affine", "occlude", "contrast", "brightness", "gamma", "noise", "window", "labels", "output", "x"]),
    st.dictionaries(
        st.sampled_from(
            [
                "mode",
                "pad",
                "scale",
                "rotate_deg",
                "probability",
                "max_voxels",
                "label",
                "factor",
                "low",
                "high",
                "std",
                "keep",
                "fill",
                "spacing_mm",
                "sampler",
            ]
        ),
        json_values,
        max_size=3,
    )
    | json_values,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    document=st.dictionaries(st.sampled_from([*GOOD, "y"]), json_values, max_size=6)
    | recipes.map(lambda recipe: {**GOOD, "recipe": recipe})
)
def test_any_json_is_drawn_or_refused(shown: Any, document: Any) -> None:
    status, headers, body = ask(shown, "POST", "/api/sheet", json.dumps(document).encode(), JSON)
    if status == 200:
        assert headers["content-type"] == "image/png"
    else:
        assert status in (400, 404), (document, body)
        assert json.loads(body)["error"]["message"]


def test_a_body_that_is_too_long_or_never_ends_is_cut_off(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "longer than 65536 bytes" in refused(shown, 413, "POST", "/api/sheet", body=b" " * 70_000, headers=JSON)
    assert "longer than 65536 bytes" in refused(
        shown, 413, "POST", "/api/recipe", body=b"#" * 70_000, headers={"Content-Type": "application/toml"}
    )
    monkeypatch.setattr(bodies, "_BODY_S", 0.2)
    assert "did not arrive within 0.2 s" in refused(shown, 408, "POST", "/api/sheet", body=b"{", headers=JSON | {"Content-Length": "100"})


@pytest.mark.parametrize("text", [b"=", b"\xff", b"[affine]\nscale = 'x'", b'[[steps]]\nop = "mirror"', b"a" * 1000, b"x = " + b"[" * 5000])
def test_a_file_that_is_no_recipe_is_told_what_is_wrong(shown: Any, text: bytes) -> None:
    assert refused(shown, 400, "POST", "/api/recipe", body=text, headers={"Content-Type": "application/toml"})


def test_more_work_than_may_wait_is_refused_and_the_rest_is_done(show: Callable[..., Any], ct: Any) -> None:
    shown = show(ct, page={"max_waiting": 2})
    gate = threading.Event()
    drawing = shown.page._routes._drawing._pool
    drawing.submit(gate.wait)  # what is asked for now has to wait
    with ThreadPoolExecutor(12) as callers:
        answers = [callers.submit(ask, shown, "POST", "/api/sheet", sheet(), JSON) for _ in range(12)]
        first = [answer.result()[0] for answer in itertools.islice(as_completed(answers), 10)]
        assert first == [503] * 10
        # the page answers while its worker is busy, and so does the server
        assert ask(shown, "GET", "/api/live")[0] == 200
        gate.set()
        statuses = sorted(answer.result()[0] for answer in answers)
    assert statuses == [200] * 2 + [503] * 10
    assert ask(shown, "POST", "/api/sheet", sheet(), JSON)[0] == 200


def test_a_browser_that_stops_reading_a_sample_gives_its_place_back(shown: Any) -> None:
    body = sheet(patch=[24, 30, 36])  # 130 kB
    host, port = shown.url.removeprefix("http://").rstrip("/").split(":")
    for _ in range(6):  # more than may be on their way at a time
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /api/sample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            assert connection.recv(12) == b"HTTP/1.1 200"
    status, headers, voxels = ask(shown, "POST", "/api/sample", body, JSON)
    assert status == 200
    about = json.loads(headers["x-sample"])
    assert len(voxels) == int(np.prod(about["image_shape"])) * 5


def test_a_bug_is_an_incident_in_the_log_and_no_traceback_in_the_answer(
    shown: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("augserver.web.gallery.Gallery.thumbnail", lambda *_: {}["secret"])
    message = refused(shown, 500, "GET", "/api/volumes/case_1/thumbnail")
    incident = message.partition("incident ")[2][:12]
    assert "secret" not in message
    [record] = [record for record in caplog.records if incident in record.getMessage()]
    assert record.exc_info is not None
    assert "Exception in ASGI application" not in caplog.text  # it is told once


def test_a_damaged_volume_is_said_without_its_path(show: Callable[..., Any], make_damaged: Callable[[], Any]) -> None:
    shown = show(make_damaged())
    message = refused(shown, 500, "GET", "/api/volumes/case_1/thumbnail")
    assert "volume 'case_1'" in message
    assert ask(shown, "GET", "/api/volumes/case_2/thumbnail")[0] == 200


def test_where_the_server_asks_who_calls_the_page_asks_for_its_key(show: Callable[..., Any], ct: Any, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[a]\nsha256 = "{"0" * 64}"\nrights = ["read"]\n')
    shown = show(ct, security={"token_file": str(tokens)})
    key = shown.url.partition("?key=")[2]
    assert len(key) >= 32
    for path in ("/", "/api/dataset", "/static/js/main.js", "/?key=wrong", f"/api/dataset?key={key}"):
        refused(shown, 401, "GET", path)
    status, headers, _ = ask(shown, "GET", f"/?key={key}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    cookie = headers["set-cookie"].partition(";")[0]
    assert ask(shown, "GET", "/api/dataset", headers={"Cookie": cookie})[0] == 200
    refused(shown, 401, "GET", "/api/dataset", headers={"Cookie": f"{cookie}x"})


def test_an_open_address_a_taken_one_and_missing_packages_are_refused_before_the_start(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        check_page(parse_config({"page": {"address": "0.0.0.0:0"}}))
    check_page(parse_config({"page": {"address": "0.0.0.0:0"}, "listen": {"insecure": True}}))
    with pytest.raises(StateError, match="cannot listen"):
        check_page(parse_config({"page": {"address": shown.url.removeprefix("http://").rstrip("/")}}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--http needs starlette and uvicorn.*pip install 'augserver\[web\]'"):
        check_page(parse_config({"page": {"address": "127.0.0.1:0"}}))
