"""The recipe studio in a browser: every control by keyboard and by mouse, errors at the control, the picture that `preview` writes."""

from __future__ import annotations

import base64
import io
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient import Recipe
from augclient.wire.v1 import augserver_pb2 as pb
from PIL import Image

from augserver.cli import main

SECTIONS = [field for field in pb.Recipe.DESCRIPTOR.fields if field.name != "steps"]  # recipes of steps are not edited here
RECIPE_KEYS = {
    f"{section.name}.{key.name}"
    for section in SECTIONS
    for key in section.message_type.fields
    if not key.name.startswith(("keep_", "ignore_"))  # a value of its neighbour
}


def open_studio(open_tab: Callable[..., Any], url: str, **options: Any) -> Any:
    """The studio once its first sheet is drawn, of one small patch, which is drawn quickly."""
    page = open_tab(f"{url}#studio", **options)
    wait_drawn(page)
    act(page, lambda: page.get_by_label("Seeds shown").fill("1"))
    for axis in "zyx":
        act(page, lambda axis=axis: page.get_by_label(f"Patch, {axis}").fill("12"))
    return page


def drawn(page: Any) -> int:
    return int(page.eval_on_selector("#studio-status", "e => Number(e.dataset.drawn ?? 0)"))


def wait_drawn(page: Any, before: int = 0) -> None:
    page.wait_for_selector(f"#studio-status[data-drawn]:not([data-drawn='{before}'])")
    page.wait_for_selector("#sheet[aria-busy=false]")


def act(page: Any, action: Callable[[], Any]) -> None:
    """Do something that draws the sheet anew, and wait for that."""
    before = drawn(page)
    action()
    page.wait_for_selector("#sheet[aria-busy=false]")
    assert page.locator("#page-studio .error:visible").all_text_contents() == []
    wait_drawn(page, before)


def recipe_of(page: Any) -> dict[str, Any]:
    return tomllib.loads(page.text_content("#toml"))


def all_on(page: Any) -> None:
    """Switch every section on."""
    for section in SECTIONS:
        toggle = page.locator(f"[data-section={section.name}] input[role=switch]")
        if not toggle.is_checked():
            act(page, lambda toggle=toggle: toggle.press("Space"))


def test_the_studio_has_a_control_for_every_key_of_a_recipe(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_studio(open_tab, shown.url)
    keys = page.eval_on_selector_all("[data-key]", "all => all.map((each) => each.dataset.key)")
    assert set(keys) == RECIPE_KEYS
    assert len(keys) == len(RECIPE_KEYS)


@pytest.mark.slow
def test_every_control_of_a_recipe_works_by_keyboard(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_studio(open_tab, shown.url)
    all_on(page)
    act(page, lambda: page.get_by_role("button", name="Scale: one for each axis").press("Enter"))
    assert recipe_of(page)["affine"]["scale"] == [[0.85, 1.15]] * 3
    moves = {"range": "ArrowRight", "number": "ArrowUp", "checkbox": "Space"}
    used = set()
    for control in page.locator("[data-key]").all():
        key = control.get_attribute("data-key")
        for field in control.locator("input:visible, select:visible").all():
            before = page.text_content("#toml")
            kind = field.get_attribute("type") or "select"
            if key == "output.sampler" or field.get_attribute("aria-label") in ("Spacing, y", "Spacing, x"):
                continue  # their next value is refused here: below
            value = field.input_value()
            press = moves.get(kind, "ArrowDown")
            if kind == "range" and value == field.get_attribute("max"):
                press = "ArrowLeft"
            if (
                kind == "number"
                and "lowest" in field.get_attribute("aria-label")
                and value == control.locator("input:visible").last.input_value()
            ):
                press = "ArrowDown"  # a number, unlike a thumb, does not push the other one, and a reversed range is refused
            act(page, lambda field=field, press=press: field.press(press))
            assert page.text_content("#toml") != before, (key, kind)
            used.add(key)
            if key == "labels.keep":
                act(page, lambda field=field: field.press("Space"))  # one has to stay
    assert used == RECIPE_KEYS - {"output.sampler"}
    assert recipe_of(page)["output"]["spacing_mm"] == 1.0
    page.get_by_label("Spacing, y").press("ArrowUp")
    page.get_by_text("output.spacing_mm: got [1, 1] of length 2").wait_for()
    act(page, lambda: page.get_by_label("Spacing, x").press("ArrowUp"))
    assert recipe_of(page)["output"]["spacing_mm"] == [1.0, 1.0, 1.0]
    act(page, lambda: page.get_by_label("Border", exact=True).press("ArrowUp"))  # a texture has no "edge", whose control would tell
    sampler = page.get_by_label("Sampler")
    sampler.press("ArrowDown")
    error = page.locator("[data-key='output.sampler'] .error")
    error.wait_for()
    assert error.text_content().startswith("output.sampler: got 'texture'")


@pytest.mark.slow
def test_every_control_of_a_recipe_works_by_mouse(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_studio(open_tab, shown.url)
    for section in SECTIONS:
        label = page.locator(f"[data-section={section.name}] label.switch")
        if not label.locator("input").is_checked():
            act(page, label.click)
    assert set(recipe_of(page)) | {"crop", "labels"} >= {section.name for section in SECTIONS} - {"output"}
    for control in page.locator("[data-key]").all():
        key = control.get_attribute("data-key")
        section, _, leaf = key.partition(".")
        before = recipe_of(page).get(section, {}).get(leaf)
        sliders = control.locator("input[type=range]:visible")
        if sliders.count():
            box = sliders.last.bounding_box()
            thumb = sliders.last.evaluate("e => (e.value - e.min) / (e.max - e.min)")
            at = box["x"] + 8 + thumb * (box["width"] - 16)  # the thumb is 16 pixels wide
            away = -25 if thumb > 0.8 else 25

            def drag(at: float = at, away: int = away, box: dict[str, float] = box) -> None:
                page.mouse.move(at, box["y"] + box["height"] / 2)
                page.mouse.down()
                page.mouse.move(at + away, box["y"] + box["height"] / 2, steps=3)
                page.mouse.up()

            sliders.last.scroll_into_view_if_needed()
            box.update(sliders.last.bounding_box())
            act(page, drag)
        elif control.locator("input[type=checkbox]").count():
            act(page, control.locator("label.check").first.click)
        elif control.locator("select").count() and key != "output.sampler":
            select = control.locator("select")
            other = select.evaluate("e => (e.selectedIndex + 1) % e.length")
            act(page, lambda select=select, other=other: select.select_option(index=other))
        else:
            continue
        assert recipe_of(page).get(section, {}).get(leaf) != before, key


def test_setup_volume_views_seeds_reset_and_toml_work(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_studio(open_tab, shown.url)
    titles = lambda: page.eval_on_selector_all("#sheet b", "all => all.map((each) => each.textContent)")  # noqa: E731
    assert titles()[0] == "untouched"
    assert titles()[1].startswith("seed 1, ")
    act(page, lambda: page.get_by_role("button", name="Other seeds").click())
    assert titles()[1].startswith("seed 2, ")
    act(page, lambda: page.get_by_label("First seed").fill("77"))
    act(page, lambda: page.get_by_label("Seeds shown").fill("3"))
    assert [title.split(",")[0] for title in titles()] == ["untouched", "seed 77", "seed 78", "seed 79"]
    for view in ("Axial", "Coronal", "Sagittal", "All"):
        page.get_by_role("radio", name=view).focus()
        page.get_by_role("radio", name=view).check(force=True)
        assert page.locator("#sheet figure").first.locator("canvas:visible").count() == (3 if view == "All" else 1)
    samples = titles()
    act(page, lambda: page.locator("#page-studio").get_by_label("Volume", exact=True).select_option("case_3"))
    assert titles() != samples  # the volume has another index in every seed's order
    page.locator("summary").click()
    assert page.locator("#toml").is_visible()
    act(page, lambda: page.get_by_role("button", name="Reset").click())
    assert recipe_of(page)["affine"]["rotate_deg"] == [-15, 15]


def test_copied_toml_is_the_recipe_and_a_file_with_it_opens_as_the_same(open_tab: Callable[..., Any], shown: Any, tmp_path: Path) -> None:
    page = open_studio(open_tab, shown.url, permissions=["clipboard-read", "clipboard-write"])
    act(page, lambda: page.get_by_label("Rotation, highest, as a number").fill("33.5"))
    page.get_by_role("button", name="Copy as TOML").click()
    page.get_by_text("copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    file = tmp_path / "recipe.toml"
    file.write_text(copied)
    assert Recipe.load(file).to_dict()["affine"]["rotate_deg"] == [-15, 33.5]
    act(page, lambda: page.get_by_role("button", name="Reset").click())
    assert page.text_content("#toml") != copied
    act(page, lambda: page.get_by_label("Open a recipe file").set_input_files(file))
    assert page.text_content("#toml") == copied
    file.write_text("[affine]\nrotate_degrees = 3\n")
    page.get_by_label("Open a recipe file").set_input_files(file)
    page.get_by_text("unknown recipe key 'affine.rotate_degrees'").wait_for()


def test_the_servers_own_message_stands_at_the_control(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_studio(open_tab, shown.url)
    field = page.get_by_label("Shear, highest, as a number")
    field.fill("0.9")
    error = page.locator("[data-key='affine.shear'] .error")
    error.wait_for()
    assert error.text_content() == "affine.shear: got 0.9; allowed: -0.49 to 0.49, beyond which the transform could become singular"
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("aria-describedby") == error.get_attribute("id")
    act(page, lambda: field.fill("0.2"))
    assert not error.is_visible()
    assert field.get_attribute("aria-invalid") is None
    page.locator("[data-section=window] input[role=switch]").press("Space")
    page.locator("[data-section=gamma] input[role=switch]").press("Space")
    gamma = page.locator("[data-section=gamma] > .error")
    gamma.wait_for()
    assert gamma.text_content().startswith("gamma works on the window's [0, 1]")
    act(page, lambda: page.locator("[data-section=gamma] input[role=switch]").press("Space"))
    page.get_by_label("Patch, z").fill("25")
    page.get_by_text("patch (25, 12, 12) exceeds volume 'case_1' (24, 30, 40)").wait_for()
    page.get_by_label("Patch, z").fill("999999999")
    page.get_by_text("allowed: 8000000").wait_for()
    page.get_by_label("Patch, z").fill("")
    page.get_by_text("patch: got [None, 12, 12]").wait_for()
    act(page, lambda: page.get_by_label("Patch, z").fill("12"))
    assert page.locator("#page-studio .error:visible").count() == 0


def test_the_picture_equals_what_preview_writes(open_tab: Callable[..., Any], shown: Any, tmp_path: Path) -> None:
    page = open_tab(f"{shown.url}#studio", permissions=["clipboard-read", "clipboard-write"])
    wait_drawn(page)
    act(page, lambda: page.get_by_label("First seed").fill("4"))
    act(page, lambda: page.get_by_label("Seeds shown").fill("2"))
    with page.expect_response("**/api/sheet") as answer:
        act(page, lambda: page.get_by_label("Patch, x").fill("20"))
    boxes = [box for column in json.loads(answer.value.headers["x-sheet"])["columns"] for box in column["views"]]
    patch = [int(page.get_by_label(f"Patch, {axis}").input_value()) for axis in "zyx"]
    (tmp_path / "recipe.toml").write_text(page.text_content("#toml"))
    with page.expect_download() as download:
        page.get_by_text("Save as PNG").click()
    download.value.save_as(tmp_path / "saved.png")
    arguments = ["--recipe", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "sheet.png"), "--seed", "4", "--seeds", "2"]
    with pytest.raises(SystemExit) as ended:
        main(["preview", str(shown.dataset.path), *arguments, "--patch", ",".join(map(str, patch)), "--volume", "case_1"])
    assert ended.value.code == 0
    preview = np.asarray(Image.open(tmp_path / "sheet.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "saved.png")), preview)
    canvases = page.evaluate(
        "() => [...document.querySelectorAll('#sheet canvas')].map((canvas) => canvas.toDataURL('image/png').split(',')[1])"
    )
    assert len(canvases) == len(boxes) == 9  # three columns of three views
    for data, (left, top, width, height) in zip(canvases, boxes, strict=True):
        view = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        np.testing.assert_array_equal(view, preview[top : top + height, left : left + width])


def test_dragging_draws_the_last_recipe_with_one_request_at_a_time(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_tab(f"{shown.url}#studio")
    wait_drawn(page)
    active, most, asked = 0, 0, 0

    def begin(request: Any) -> None:
        nonlocal active, most, asked
        if request.url.endswith("/api/sheet"):
            active, asked = active + 1, asked + 1
            most = max(most, active)

    def end(request: Any) -> None:
        nonlocal active
        active -= request.url.endswith("/api/sheet")

    page.on("request", begin)
    page.on("requestfinished", end)
    slider = page.get_by_label("Rotation, highest", exact=True)
    for _ in range(40):
        slider.press("ArrowRight")
    page.locator("#toml", has_text="rotate_deg = [-15.0, 55.0]").wait_for(state="attached")
    assert most == 1
    assert 2 <= asked <= 41


def test_a_sample_of_the_sheet_opens_in_three_planes(open_tab: Callable[..., Any], shown: Any) -> None:
    page = open_studio(open_tab, shown.url)
    page.get_by_role("button", name="See seed 1").press("Enter")
    page.locator("#readout dd").first.wait_for()
    assert page.url.endswith("#viewer")
    assert page.text_content("#viewer-title").startswith("case_1, seed 1, sample ")
