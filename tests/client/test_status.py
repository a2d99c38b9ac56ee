"""What a failed call means: the server's own error, an answer of somebody on the way, or a break after which it is asked again."""

from __future__ import annotations

import grpc
import pytest
from augclient import errors
from augclient.wire.status import ERROR_KEY, CallError, error_from_rpc, is_outage

Code = grpc.StatusCode


@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.CANCELLED, Code.ABORTED, Code.DEADLINE_EXCEEDED])
@pytest.mark.parametrize(
    "details",
    [
        "the server broke the call off (HTTP/2 error code 2)",
        "the server ended the call without a status",
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        "Received RST_STREAM with error code 8",
        "Stream removed",
        "GOAWAY received",
        "",
    ],
)
def test_a_break_without_the_servers_name_is_an_outage(code, details):
    error = CallError(code, details)
    assert is_outage(error)
    assert isinstance(error_from_rpc(error, "a:1"), errors.DeadlineError if code is Code.DEADLINE_EXCEEDED else errors.UnavailableError)


@pytest.mark.parametrize(
    "details", ["what answers there is no gRPC server: HTTP status {}, content-type text/html", "Received http2 header with status: {}"]
)
@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (502, errors.UnavailableError, "does not reach the server"),
        (503, errors.UnavailableError, "does not reach the server"),
        (504, errors.UnavailableError, "longer than it allows"),
        (408, errors.UnavailableError, "longer than it allows"),
        (429, errors.UnavailableError, "limits the rate"),
        (404, errors.UnavailableError, "answers instead of the server"),
        (200, errors.UnavailableError, "answers instead of the server"),
        (301, errors.RequestError, "elsewhere"),
        (400, errors.RequestError, "answers instead of the server"),
        (413, errors.RequestError, "too large"),
        (401, errors.AuthError, "a right to enter"),
        (403, errors.ForbiddenError, "a right to enter"),
    ],
)
def test_a_status_page_is_an_outage_unless_it_answers_the_request(details, status, kind, says):
    error = CallError(Code.UNKNOWN, details.format(status))
    told = error_from_rpc(error, "a:1")
    assert type(told) is kind
    assert says in str(told)
    assert is_outage(error) == (kind is errors.UnavailableError)


@pytest.mark.parametrize(
    ("headers", "proxy", "setting"),
    [
        ({"server": "nginx/1.27.0"}, "Nginx", "grpc_read_timeout"),
        ({"server": "envoy"}, "Envoy", "stream_idle_timeout"),
        ({"server": "Caddy"}, "Caddy", "read_timeout"),
        ({"via": "2 nghttpx"}, "Nghttpx", "--backend-read-timeout"),
        ({}, "A proxy", "timeout server of haproxy"),
    ],
)
def test_the_proxy_is_named_with_the_setting_that_limits_time(headers, proxy, setting):
    error = CallError(Code.UNAVAILABLE, "what answers there is no gRPC server: HTTP status 504, content-type none", tuple(headers.items()))
    assert f"{proxy} waited for longer than it allows" in str(error_from_rpc(error, "a:1"))
    assert setting in str(error_from_rpc(error, "a:1"))


def test_a_port_that_speaks_another_protocol_is_asked_about_tls():
    details = "failed to connect to all addresses; last error: INTERNAL: (Trying to connect an http1.x server (HTTP status 400))"
    error = CallError(Code.UNAVAILABLE, details)
    assert is_outage(error)
    assert "does it speak TLS" in str(error_from_rpc(error, "a:1"))


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.UNKNOWN])
def test_an_error_that_the_server_named_is_an_answer_whatever_its_status(code):
    for name in ("AugError", "BudgetError", "ErrorOfALaterVersion"):
        error = CallError(code, "words", ((ERROR_KEY, name),))
        later = name == "ErrorOfALaterVersion" and code is Code.UNAVAILABLE
        assert is_outage(error) == later
        assert str(error_from_rpc(error, "a:1")) == "words"
    assert is_outage(CallError(code, "draining", ((ERROR_KEY, "UnavailableError"),)))


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.UNIMPLEMENTED])
def test_a_status_that_answers_a_request_is_an_answer_whoever_sent_it(code):
    assert not is_outage(CallError(code, "words"))
