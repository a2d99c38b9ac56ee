"""A server with its page in this process, datasets whose names attack, and a headless Chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augserver.config import parse_config
from augserver.geometry import affine_of
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset, DatasetWriter
from augserver.web.page import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # containers have a small /dev/shm
EVIL = '<img src=x onerror="document.title=1">'
SPACING_MM = (3.0, 1.5, 1.0)
SHAPES = {"case_1": (24, 30, 40), "case_2": (26, 32, 36), "case_3": (25, 31, 38)}


def make_ct(path: Path) -> Dataset:
    """Three CTs with a sphere of one class and a box of another, whose name is HTML; asymmetric in everything."""
    with DatasetWriter(path, modality="ct", classes={1: "liver", 2: EVIL}) as writer:
        for seed, (id_, shape) in enumerate(SHAPES.items()):
            rng = np.random.default_rng(seed)
            z, y, x = np.indices(shape)
            image = (z * 10 - y * 7 + x * 3 + rng.integers(-20, 20, shape)).astype(np.int16)
            label = np.zeros(shape, np.uint8)
            label[(z - 12) ** 2 * 9 + (y - 12) ** 2 * 2 + (x - 16) ** 2 < 150] = 1
            label[3:20, 20:28, 24:34] = 2
            image[label == 2] += 400
            writer.write(id_, image[None], label, SPACING_MM, affine_of(SPACING_MM, (-17.0, 5.0, 100.0)), {})
        writer.finish()
    return Dataset.open(path)


def make_mr(path: Path) -> Dataset:
    """One MR of two channels, float32, without a label."""
    with DatasetWriter(path, modality="mr") as writer:
        image = np.random.default_rng(5).gamma(2.0, 150.0, (2, 20, 22, 24)).astype(np.float32)
        image[1] += 5000
        writer.write("brain", image, None, (1.0, 1.0, 1.0), affine_of((1.0, 1.0, 1.0)), {})
        writer.finish()
    return Dataset.open(path)


@dataclass(frozen=True)
class Shown:
    """A running server and its page."""

    server: Server
    page: Page
    dataset: Dataset

    @property
    def url(self) -> str:
        return self.page.url


@pytest.fixture(scope="session")
def show() -> Iterator[Callable[..., Shown]]:
    """Start a server of a dataset with its page; config sections as keywords. All are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(dataset: Dataset, **sections: dict[str, Any]) -> Shown:
            sections.setdefault("listen", {}).setdefault("address", "127.0.0.1:0")
            sections.setdefault("page", {}).setdefault("address", "127.0.0.1:0")
            config = parse_config(sections)
            backend = open_backend("cpu", threads=1)
            server = Server(dataset, backend, config)
            server.start()
            stack.callback(server.stop)
            return Shown(server, stack.enter_context(Page(server, dataset, backend, config)), dataset)

        yield start


@pytest.fixture(scope="session")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_ct(tmp_path_factory.mktemp("web") / "ct.zarr")


@pytest.fixture(scope="session")
def mr(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_mr(tmp_path_factory.mktemp("web") / "mr.zarr")


@pytest.fixture(scope="session")
def shown(show: Callable[..., Shown], ct: Dataset) -> Shown:
    """The CT dataset with its page, for the whole session."""
    return show(ct)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page of the browser and what went wrong in it."""

    page: Any
    trouble: list[str]
    hosts: set[str]


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a URL in a browser of its own; at the end nothing may have been said on the console, and nothing asked of another host."""
    with contextlib.ExitStack() as stack:
        tabs: list[Tab] = []

        def start(url: str, *, width: int = 1280, height: int = 900, scheme: str = "light", **options: Any) -> Any:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(20_000)
            tab = Tab(page, [], set())
            page.on("console", lambda message: tab.trouble.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: tab.trouble.append(str(error)))
            page.on("dialog", lambda dialog: tab.trouble.append(dialog.message))
            page.on("request", lambda request: tab.hosts.add(request.url.partition("://")[2].partition("/")[0]))
            tabs.append(tab)
            page.goto(url)
            return page

        yield start
        for tab in tabs:
            assert [line for line in tab.trouble if "status of 4" not in line] == []  # the network log's line on a refused recipe
            assert len({host for host in tab.hosts if "127.0.0.1" not in host}) == 0


@pytest.fixture
def make_damaged(tmp_path: Path) -> Callable[[], Dataset]:
    """Make a dataset whose first volume has lost a bit after it was opened."""

    def make() -> Dataset:
        dataset = make_ct(tmp_path / "damaged.zarr")
        shard = max((file for file in (dataset.path / "case_1" / "0").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
        return dataset

    return make
