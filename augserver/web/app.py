"""The page's routes. Nothing here changes anything; whatever draws is handed to a worker, so that answering stays quick.

    GET  /                                     the page; /static/... its scripts and styles
    GET  /api/dataset                          what is served: volumes, classes with their colours, limits
    GET  /api/live                             counters and the verdict
    GET  /api/volumes/ID/thumbnail             PNG
    GET  /api/volumes/ID/range?channel=0       {"low", "high"} to show as black and white
    GET  /api/volumes/ID/planes/AXIS/INDEX     raw voxels, then raw labels
    POST /api/sheet                            PNG of one patch under several seeds; what it shows stands in the header X-Sheet
    POST /api/sample                           raw voxels of the sample of the first seed, then raw labels; the header X-Sample says more
    POST /api/recipe                           text of a TOML file -> {"recipe", "toml"}

Raw arrays are little-endian in C order. Errors are {"error": {"kind", "message", "key"}} with a status of 4xx, or 5xx for damage.
"""

from __future__ import annotations

import json
import logging
import mimetypes
import tomllib
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from augclient import Recipe
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from augserver.errors import (
    AugError,
    BudgetError,
    DeadlineError,
    NotFoundError,
    RecipeError,
    RequestError,
    StateError,
    UnavailableError,
    VolumeError,
)
from augserver.service.faults import Faults
from augserver.web.bodies import error_key, parse_sheet_request, read_body
from augserver.web.gallery import AXES, Gallery
from augserver.web.patches import PatchMaker, first_index
from augserver.web.raw_answer import RawAnswer
from augserver.web.sheet import colour_of
from augserver.web.studio import MAX_COUNT, SheetRequest, draw_seeds
from augserver.web.workers import Workers

STATIC = Path(__file__).parent / "static"

_log = logging.getLogger(__name__)
_STATUS: dict[type[AugError], int] = {
    RequestError: 400,
    NotFoundError: 404,
    BudgetError: 413,
    StateError: 409,
    UnavailableError: 503,
    DeadlineError: 408,
}
_MAX_ID = 256
_BIG_ANSWERS = 4  # samples on their way to browsers at a time


class Routes:
    """Handlers over what they need.

    Args:
        maker: computes patches, keeps volumes.
        read_live: the answer of /api/live.
        serving: where and how the dataset is served, for people.
        queue: pieces of work that may wait.
    """

    def __init__(self, maker: PatchMaker, read_live: Callable[[], dict[str, Any]], *, serving: str, queue: int) -> None:
        self._maker = maker
        self._gallery = Gallery(maker)
        self._read_live = read_live
        self._serving = serving
        self._drawing = Workers("page-draw", queue=queue)  # what someone drags a slider for
        self._reading = Workers("page-read", queue=4 * queue)  # thumbnails, which come by the dozen
        self._faults = Faults(maker.dataset.path)
        self._answers = 0

    def app(self) -> Starlette:
        """The application."""
        mimetypes.init()  # reads the system's files now, and not with the first request, when there may be no descriptor left
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/api/dataset", self._dataset),
                Route("/api/live", self._live),
                Route("/api/volumes/{id}/thumbnail", self._thumbnail),
                Route("/api/volumes/{id}/range", self._range),
                Route("/api/volumes/{id}/planes/{axis}/{index}", self._plane),
                Route("/api/sheet", self._sheet, methods=["POST"]),
                Route("/api/sample", self._sample, methods=["POST"]),
                Route("/api/recipe", self._recipe, methods=["POST"]),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            exception_handlers={AugError: self._refuse, HTTPException: _refuse_http, Exception: _report},
        )

    def close(self) -> None:
        """End the workers."""
        self._drawing.close()
        self._reading.close()

    async def _index(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _dataset(self, request: Request) -> Response:
        dataset = self._maker.dataset
        infos = [dataset.info(id_) for id_ in dataset.volumes]
        return JSONResponse(
            {
                "name": dataset.path.name,
                "serving": self._serving,
                "fingerprint": dataset.fingerprint,
                "modality": dataset.modality,
                "size_bytes": dataset.size_bytes,
                "classes": [
                    {"id": key, "name": name, "colour": colour_of(key), "voxels": dataset.class_voxels[key]}
                    for key, name in sorted(dataset.classes.items())
                    if key
                ],
                "volumes": [
                    {
                        "id": info.id,
                        "shape": info.shape,
                        "dtype": info.dtype,
                        "spacing_mm": info.spacing_mm,
                        "affine": info.affine.tolist(),
                        "has_label": info.has_label,
                        "classes": [key for key, count in info.class_voxels.items() if key and count],
                    }
                    for info in infos
                ],
                "usual_patch": self._maker.usual_patch,
                "max_patch_voxels": self._maker.max_patch_voxels,
                "max_count": MAX_COUNT,
            }
        )

    async def _live(self, request: Request) -> Response:
        return JSONResponse(self._read_live())

    async def _thumbnail(self, request: Request) -> Response:
        id_ = self._volume(request)
        return Response(await self._reading.run(lambda: self._gallery.thumbnail(id_)), media_type="image/png")

    async def _range(self, request: Request) -> Response:
        id_, channel = self._volume(request), _channel(request)
        low, high = await self._reading.run(lambda: self._gallery.shown_range(id_, channel))
        return JSONResponse({"low": low, "high": high})

    async def _plane(self, request: Request) -> Response:
        id_, axis = self._volume(request), request.path_params["axis"]
        if axis not in AXES:
            raise RequestError(f"axis: got {axis[:20]!r}; allowed: {', '.join(AXES)}")
        index, channel = _whole_number("index", request.path_params["index"]), _channel(request)
        plane = await self._drawing.run(lambda: self._gallery.plane(id_, AXES.index(axis), index, channel))
        return RawAnswer("X-Plane", plane.image, plane.label, {})

    async def _sheet(self, request: Request) -> Response:
        wanted = parse_sheet_request(await read_body(request, "application/json"))
        sheet = await self._drawing.run(lambda: draw_seeds(self._maker, wanted))
        shown = {"columns": [asdict(column) for column in sheet.columns], "planes": sheet.planes, "toml": wanted.recipe.to_toml()}
        return Response(sheet.png, media_type="image/png", headers={"X-Sheet": json.dumps(shown)})

    async def _sample(self, request: Request) -> Response:
        wanted = parse_sheet_request(await read_body(request, "application/json"))
        if self._answers >= _BIG_ANSWERS:
            raise UnavailableError(f"the page is busy: {self._answers} samples are on their way to browsers; try again in a moment")
        self._answers += 1
        try:
            return await self._drawing.run(lambda: self._compute(wanted))
        except BaseException:
            self._answers -= 1
            raise

    def _compute(self, wanted: SheetRequest) -> Response:
        plan = self._maker.plan(wanted.recipe, wanted.patch, wanted.seed)
        self._maker.dataset.info(wanted.volume)
        index = first_index(plan, wanted.volume)
        patch = self._maker.make(wanted.recipe, plan, index)
        params = patch.params
        about = {
            "seed": wanted.seed,
            "index": index,
            "shape": patch.image.shape,
            "spacing_mm": patch.spacing_mm,
            "affine": params.affine.tolist(),
            "window": params.window,
            "noise_key": str(params.noise_key),
        }
        return RawAnswer("X-Sample", patch.image, patch.label, about, on_end=self._forget_answer)

    def _forget_answer(self) -> None:
        self._answers -= 1

    async def _recipe(self, request: Request) -> Response:
        try:
            recipe = Recipe.from_dict(tomllib.loads((await read_body(request, "application/toml")).decode()))
            if recipe.proto.steps:
                raise RecipeError(
                    "this page edits recipes of sections, and this is one of steps; `augserver preview --recipe FILE` draws it"
                )
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecipeError(f"the file is not TOML: {error}") from error
        return JSONResponse({"recipe": recipe.to_dict(), "toml": recipe.to_toml()})

    def _volume(self, request: Request) -> str:
        id_: str = request.path_params["id"]
        return self._maker.dataset.info(id_[:_MAX_ID]).id

    async def _refuse(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, AugError):
            raise error
        if isinstance(error, VolumeError) or isinstance(error.__cause__, OSError):
            _log.error("%s", error)  # whoever keeps the dataset has to know, and where it lies
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        return _error(type(error).__name__, self._faults.public_message(str(error)), status)


def _channel(request: Request) -> int:
    return _whole_number("channel", request.query_params.get("channel", "0"))


def _whole_number(what: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise RequestError(f"{what}: got {text[:20]!r}; allowed: a whole number")
    return int(text)


def _error(kind: str, message: str, status: int) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message, "key": error_key(message)}}, status)


async def _refuse_http(request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return _error("RequestError", f"{request.method} {request.url.path[:80]}: {detail}", status)


async def _report(request: Request, error: Exception) -> Response:
    incident = uuid.uuid4().hex[:12]
    _log.error("incident %s", incident, exc_info=error)
    return _error(
        "AugError", f"unexpected error in the server, incident {incident}; the server's log has the details, please report them", 500
    )
