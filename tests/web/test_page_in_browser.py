"""The whole page in a browser: quiet console, reach of every control, contrast, and what the viewer says about voxels."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any

import augclient
import numpy as np
import pytest
from augclient import Recipe

VIEWS = ("live", "dataset", "studio", "viewer")
EVIL = '<img src=x onerror="document.title=1">'
READY = {"live": "#verdict-why:not(:empty)", "dataset": ".volume img", "studio": "#studio-status[data-drawn]", "viewer": "#readout dd"}
# pairs of text and ground that the page uses
PAIRS = [("ink", "surface"), ("ink", "ground"), ("quiet", "surface"), ("quiet", "ground"), ("quiet", "sunken"), ("ink", "sunken")]
PAIRS += [("accent", "surface"), ("accent", "accent-soft"), ("on-accent", "accent"), ("bad", "bad-soft"), ("bad", "surface")]
PAIRS += [("on-film", "film"), ("accent", "ground")]
EDGES = [("edge", "surface"), ("edge", "ground"), ("accent", "sunken"), ("cross", "film")]


def open_view(open_tab: Callable[..., Any], url: str, view: str, **options: Any) -> Any:
    page = open_tab(f"{url}#{view}", **options)
    page.wait_for_selector(READY[view])
    return page


def facts(page: Any) -> dict[str, str]:
    texts = page.eval_on_selector_all("#readout dd", "all => all.map((each) => [each.dataset.fact, each.textContent.trim()])")
    return dict(texts)


def wait_fact(page: Any, fact: str, text: str) -> None:
    page.locator(f"#readout dd[data-fact='{fact}']", has_text=re.compile(rf"^\s*{re.escape(text)}$")).wait_for()


def pixel(page: Any, axis: int, column: int, row: int) -> list[int]:
    """The red, green and blue of a plane's picture."""
    return page.eval_on_selector(
        f".plane[data-axis='{axis}'] canvas",
        """(canvas, [x, y]) => {
            const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, x, y, 1, 1, 0, 0, 1, 1);
            return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }""",
        [column, row],
    )


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_all_views_fit_their_width_in_silence(open_tab: Callable[..., Any], shown: Any, width: int, scheme: str) -> None:
    page = open_tab(shown.url, width=width, scheme=scheme)
    for view in VIEWS:
        page.locator(f"nav a[href='#{view}']").click()
        page.wait_for_selector(READY[view])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        assert page.locator("main section:visible").get_attribute("id") == f"page-{view}"
        assert page.locator("nav a[aria-current=page]").get_attribute("href") == f"#{view}"
    assert page.locator("img[src=x]").count() == 0  # the class whose name is HTML
    assert page.title().startswith("Viewer")


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_tab_reaches_every_control_in_order_and_shows_where_it_is(open_tab: Callable[..., Any], shown: Any, view: str) -> None:
    page = open_view(open_tab, shown.url, view)
    fields = "a[href], button, input, select, summary, [tabindex='0']"
    # of radio buttons only the chosen one is a stop
    page.evaluate(
        """(fields) => [...document.querySelectorAll(fields)].filter((e) => e.checkVisibility() && !(e.type === "radio" && !e.checked))
            .forEach((e, k) => { e.dataset.stop = k; })""",
        fields,
    )
    wanted = page.evaluate("document.querySelectorAll('[data-stop]').length")
    reached = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const e = document.activeElement;
                const shown = [e, e.nextElementSibling, e.closest("label")].filter(Boolean)
                    .some((each) => getComputedStyle(each).outlineStyle !== "none");
                return { stop: e.dataset.stop ?? e.outerHTML.slice(0, 80), shown, dual: e.matches(".dual input") };
            }"""
        )
        assert stop["shown"] or stop["dual"], stop  # the thumbs of a double slider have the outline themselves
        reached.append(stop["stop"])
    assert reached == [str(k) for k in range(wanted)]
    assert wanted >= 5


@pytest.mark.parametrize("view", VIEWS)
def test_every_control_has_a_name_and_the_page_its_landmarks(open_tab: Callable[..., Any], shown: Any, view: str) -> None:
    page = open_view(open_tab, shown.url, view)
    nameless = page.eval_on_selector_all(
        "button, input, select, a[href], [role]",
        """all => all.filter((e) => e.checkVisibility() && e.getAttribute("role") !== "alert" && e.getAttribute("role") !== "status"
            && !(e.ariaLabel || e.closest("label")?.textContent || e.textContent || e.alt)).map((e) => e.outerHTML.slice(0, 100))""",
    )
    assert nameless == []
    for landmark in ("banner", "navigation", "main"):
        assert page.get_by_role(landmark).count() == 1
    assert page.locator("h1:visible").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_have_the_contrast_of_wcag_aa(open_tab: Callable[..., Any], shown: Any, scheme: str) -> None:
    page = open_tab(shown.url, scheme=scheme)
    tokens = page.evaluate(
        """(names) => {
            const style = getComputedStyle(document.documentElement);
            return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
        }""",
        sorted({name for pair in PAIRS + EDGES for name in pair}),
    )

    def luminance(colour: str) -> float:
        channels = np.array([int(colour.strip()[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for least, pairs in ((4.5, PAIRS), (3.0, EDGES)):
        for pair in pairs:
            bright, dim = sorted((luminance(tokens[name]) for name in pair), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= least, pair


def test_skip_link_leads_to_the_content(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_view(open_tab, shown.url, "live")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.locator("#page-live").is_visible()


def test_the_live_view_follows_a_stream_and_says_the_verdict(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_view(open_tab, shown.url, "live")
    before = shown.server.scheduler.statistics().batches
    with augclient.connect(str(shown.server.address)) as server:
        steps = sum(1 for _ in server.stream(Recipe(), patch=(8, 8, 8), batch_size=2, steps=5, transport="grpc"))
    assert steps == 5
    page.locator(".card", has_text="Batches made").locator(".figure", has_text=re.compile(f"^{before + 5}$")).wait_for()
    page.locator("#verdict", has_text="limited by: ").wait_for()
    assert page.text_content("#verdict") == page.text_content("#verdict-chip")


def test_the_dataset_view_shows_every_volume_and_class_as_text(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_view(open_tab, shown.url, "dataset")
    for picture in page.locator(".volume img").all():
        picture.scroll_into_view_if_needed()
        picture.evaluate("e => e.decode()")
        assert picture.evaluate("e => e.naturalWidth") > 100
    assert page.locator(".class-list li").all_text_contents()[1].startswith(EVIL)
    assert page.get_by_text(shown.dataset.fingerprint).is_visible()
    page.get_by_label("Find volumes by their id").fill("SE_3")
    assert page.locator(".volume:visible h2").all_text_contents() == ["case_3"]
    page.get_by_role("button", name="Use case_3 in the studio").click()
    page.wait_for_selector(READY["studio"])
    assert page.locator("#page-studio").get_by_label("Volume", exact=True).input_value() == "case_3"
    page.locator("nav a[href='#dataset']").click()
    page.get_by_role("button", name="View case_3").press("Enter")
    page.locator("#viewer-title", has_text="case_3").wait_for()


def test_the_crosshair_names_voxel_position_value_and_label_in_all_planes(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_view(open_tab, shown.url, "viewer")
    volume = shown.dataset.read("case_1")

    def expect(z: int, y: int, x: int) -> None:
        wait_fact(page, "Voxel", f"z {z}, y {y}, x {x}")
        mm = volume.info.affine @ [z, y, x, 1]
        letters = [pair[0] if value >= 0 else pair[1] for value, pair in zip(mm[:3], ("LR", "PA", "SI"), strict=True)]
        position = ", ".join(f"{letter} {abs(value):.1f}" for letter, value in zip(letters, mm[:3], strict=True))
        said = facts(page)
        assert said["Position"] == f"{position} mm"
        assert said["Value"] == f"{volume.image[0, z, y, x]} HU"
        assert said["Label"] == ["background", "liver", EVIL][volume.label[z, y, x]]
        for axis, index in enumerate((z, y, x)):
            assert page.locator(f".plane[data-axis='{axis}'] input[type=range]").input_value() == str(index)

    films = [page.locator(f".plane[data-axis='{axis}'] .plane-film") for axis in range(3)]
    expect(12, 15, 20)
    films[0].press("ArrowRight")
    expect(12, 15, 21)
    films[0].press("ArrowDown")
    expect(12, 16, 21)  # down in the axial plane is towards the back
    films[1].press("ArrowUp")
    expect(13, 16, 21)  # up in the others is towards the head
    films[2].press("Shift+ArrowRight")
    expect(13, 26, 21)
    films[2].press("PageUp")
    expect(13, 26, 22)
    page.locator(".plane[data-axis='2'] input[type=range]").press("Home")
    expect(13, 26, 0)
    box = films[0].bounding_box()  # 40 x 30 voxels
    films[0].click(position={"x": box["width"] * 28.5 / 40, "y": box["height"] * 22.5 / 30})
    expect(13, 22, 28)
    box = films[1].bounding_box()  # 40 x 24, the head is up
    films[1].click(position={"x": box["width"] * 16.5 / 40, "y": box["height"] * (24 - 5 - 0.5) / 24})
    expect(5, 22, 16)
    films[2].hover()
    page.mouse.wheel(0, 100)
    expect(5, 22, 17)
    line = page.locator(".plane[data-axis='0'] line").first
    assert float(line.get_attribute("y1")) == 22.5


def test_window_presets_and_labels_change_what_is_drawn(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_view(open_tab, shown.url, "viewer")
    image, label = shown.dataset.read("case_1").image[0], shown.dataset.read("case_1").label
    page.get_by_label("Opacity of labels").press("Home")
    for name, low, high in (("Lung", -1350, 150), ("Bone", -500, 1300), ("Soft tissue", -160, 240), ("Brain", 0, 80)):
        page.get_by_role("radio", name=name).focus()
        page.get_by_role("radio", name=name).press("Space")
        assert page.get_by_role("radio", name=name).evaluate("e => e === document.activeElement && e.checked")
        for column, row in ((5, 7), (30, 22)):
            grey = np.clip((float(image[12, row, column]) - low) / (high - low), 0, 1) * 255
            assert np.abs(np.array(pixel(page, 0, column, row)) - grey).max() <= 0.51
            coronal = np.clip((float(image[3, 15, column]) - low) / (high - low), 0, 1) * 255
            assert np.abs(np.array(pixel(page, 1, column, 24 - 1 - 3)) - coronal).max() <= 0.51
    plain = pixel(page, 0, 28, 24)
    assert label[12, 24, 28] == 2
    page.get_by_label("Opacity of labels").press("End")
    assert pixel(page, 0, 28, 24) == [240, 228, 66]
    page.locator("#page-viewer .tools label", has_text="<img").click()
    assert pixel(page, 0, 28, 24) == plain
    before = pixel(page, 0, 5, 7)
    page.get_by_label("Window centre").press("PageUp")
    page.get_by_label("Window width").press("ArrowRight")
    assert pixel(page, 0, 5, 7) != before
    assert page.locator("input[type=radio]:checked:visible").count() == 0  # no preset is in force
    page.locator("#page-viewer").get_by_label("Volume", exact=True).select_option("case_2")
    page.locator("#viewer-title", has_text="case_2").wait_for()


def test_a_sample_in_the_viewer_is_the_one_that_trainers_get(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_view(open_tab, shown.url, "studio")
    page.get_by_role("button", name=re.compile("^See seed 3,")).click()
    page.locator("#viewer-title", has_text="seed 3").wait_for()
    wait_fact(page, "Voxel", "z 12, y 15, x 18")
    said = facts(page)
    index = int(page.text_content("#viewer-title").rpartition(" ")[2])
    toml = page.text_content("#toml")
    patch = [int(page.locator(f"input[aria-label='Patch, {axis}']").input_value()) for axis in "zyx"]
    with augclient.connect(str(shown.server.address)) as server:
        sample = server.sample(Recipe.from_dict(tomllib.loads(toml)), index=index, seed=3, patch=patch)
        affine = server.volume("case_1").affine
    assert sample.sample.volume == "case_1"
    assert float(said["Value"]) == pytest.approx(sample.image[0, 12, 15, 18], abs=0.5001e-4)
    assert said["Label"] == ["background", "liver", EVIL][sample.label[12, 15, 18]]
    origin = np.asarray(sample.sample.affine, np.float64) @ [12, 15, 18, 1]
    assert said["In the volume"] == ", ".join(f"{axis} {value:.1f}" for axis, value in zip("zyx", origin, strict=True))
    mm = np.asarray(affine) @ [*origin, 1]
    assert [abs(float(part.split()[1])) for part in said["Position"].removesuffix(" mm").split(", ")] == pytest.approx(
        np.abs(mm[:3]), abs=0.0501
    )
    assert page.get_by_role("radio", name="0 to 1").count() == 1


def test_mr_has_no_presets_of_ct_and_shows_each_channel(open_tab: Callable[..., Any], show: Callable[..., Any], mr: Any) -> None:
    shown = show(mr)
    page = open_view(open_tab, shown.url, "viewer")
    assert page.locator("#page-viewer .segments span").all_text_contents() == ["Auto"]
    image = mr.read("brain").image
    wait_fact(page, "Value", f"{image[0, 10, 11, 12]:.4f}")
    assert facts(page)["Label"] == "none in this volume"
    page.get_by_label("Channel").select_option("1")
    wait_fact(page, "Value", f"{image[1, 10, 11, 12]:.4f}")
    page.locator("nav a[href='#studio']").click()
    page.wait_for_selector(READY["studio"])
    assert page.locator("#sheet figure").count() == 6
    assert page.locator("#page-studio .error:visible").count() == 0
