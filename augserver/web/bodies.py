"""Read what a browser sends: JSON of a bounded size, every field checked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from augclient import Recipe
from augclient.wire.v1 import augserver_pb2 as pb
from starlette.requests import Request

from augserver.errors import BudgetError, DeadlineError, RequestError
from augserver.web.studio import SheetRequest

MAX_BODY_BYTES = 64 << 10  # a recipe is about a kilobyte
_FIELDS = {"recipe": dict, "volume": str, "patch": list, "seed": int, "count": int}
_MAX_TEXT = 256
_BODY_S = 10.0


async def read_body(request: Request, content_type: str) -> bytes:
    """The body, whole.

    Raises:
        RequestError: of another type: a form of another site cannot say application/json, and so cannot ask for work.
        BudgetError: longer than MAX_BODY_BYTES. DeadlineError: it did not come in time.
    """
    got = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if got != content_type:
        raise RequestError(f"Content-Type must be {content_type}, got {got[:80]!r}")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise BudgetError(f"the request's body is longer than {MAX_BODY_BYTES} bytes; a recipe takes about a thousand")
    except TimeoutError:
        raise DeadlineError(f"the request's body did not arrive within {_BODY_S:g} s") from None
    return bytes(body)


def parse_sheet_request(body: bytes) -> SheetRequest:
    """A request for a sheet.

    Raises:
        RequestError: not JSON, or a field that is missing, unknown or of the wrong type; RecipeError: of the recipe.
    """
    document = _parse_json(body)
    if not isinstance(document, dict):
        raise RequestError(f"the request must be a JSON object with {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        # bool is a subclass of int
        if not isinstance(document.get(name), kind) or isinstance(document[name], bool):
            raise RequestError(f"{name}: got {_shorten(document.get(name))}; allowed: a JSON value of type {kind.__name__}")
    if unknown := sorted(set(document) - set(_FIELDS)):
        raise RequestError(f"unknown field {_shorten(unknown[0])}; allowed: {', '.join(_FIELDS)}")
    patch = document["patch"]
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in patch):
        raise RequestError(f"patch: got {_shorten(patch)}; allowed: three whole numbers Z, Y, X")
    if len(document["volume"]) > _MAX_TEXT:  # looking for ids like it would take long
        raise RequestError(f"volume: got an id of {len(document['volume'])} characters; allowed: at most {_MAX_TEXT}")
    return SheetRequest(
        recipe=Recipe.from_dict(_check_strings(document["recipe"])),
        volume=document["volume"],
        patch=tuple(patch),
        seed=document["seed"],
        count=document["count"],
    )


def error_key(message: str) -> str:
    """The field that a message of ours begins with, such as "affine.scale" or "patch", beside which a page shows it; "": none."""
    word = message.partition(" ")[0].rstrip(":,")
    return word if word in _KEYS else ""


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a ValueError as well
        raise RequestError(f"the request is not JSON: {_shorten(str(error))}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_strings(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse texts that only cost time to compare with known keys."""
    for section, keys in recipe.items():
        inner = list(keys) if isinstance(keys, dict) else []
        for text in (section, *inner):
            if len(text) > _MAX_TEXT:
                raise RequestError(f"recipe: got a key of {len(text)} characters; allowed: at most {_MAX_TEXT}")
    return recipe


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


_KEYS = {"seed", "patch", "volume", "count"}
for _section in pb.Recipe.DESCRIPTOR.fields:
    _KEYS |= {_section.name, *(f"{_section.name}.{key.name}" for key in _section.message_type.fields)}
