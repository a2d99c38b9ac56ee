"""Losses written as text and tables, and arguments that are refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from augclient.errors import ConfigError
from augtrain.losses import CrossEntropy, Dice, IoU, MultiResolution, SegmentationLoss, Sum, parse_loss

VOXELS = {0: 900, 1: 41, 2: 7}


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("iou", IoU()),
        ("iou:fp_weight=0.5,fn_weight=1.5,background=false", IoU(fp_weight=0.5, fn_weight=1.5, background=False)),
        ("dice:weighting=square,reduce=batch", Dice("square", VOXELS, "batch")),
        ("cross_entropy:class_weights=1/4/4,ignore=255", CrossEntropy((1, 4, 4), ignore=255)),
        ("cross_entropy:class_weights=inverse", CrossEntropy("inverse", class_voxels=VOXELS)),
        (" cross_entropy + 0.5*iou ", Sum([CrossEntropy(), IoU()], [1, 0.5])),
        ("multi_resolution(dice:reduce=batch)", MultiResolution(Dice(reduce="batch"))),
        ("multi_resolution:alphas=1/0.5,trainable=true(dice+iou)", MultiResolution(Sum([Dice(), IoU()]), (1, 0.5), True)),
    ],
)
def test_text_is_read(text: str, loss: SegmentationLoss) -> None:
    read = parse_loss(text, class_voxels=VOXELS)
    assert type(read) is type(loss)
    assert read.get_config() == loss.get_config()


def test_tables_are_read() -> None:
    table = tomllib.loads("""
        name = "sum"
        weights = [1, 0.5]
        losses = [
            {name = "multi_resolution", loss = "cross_entropy+iou:power=2"},
            {name = "dice", weighting = "simple", class_voxels = {0 = 10, 1 = 5}},
        ]
    """)
    inner = MultiResolution(Sum([CrossEntropy(), IoU(power=2)]))
    assert parse_loss(table, class_voxels=VOXELS).get_config() == Sum([inner, Dice("simple", (10, 5))], [1, 0.5]).get_config()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dise", "did you mean 'dice'"),
        ("", "allowed: such as iou"),
        ("iou(dice)", "no option 'loss'"),
        ("iou:powr=2", "did you mean 'power'"),
        ("iou:name=x", "a second 'name'"),
        ("iou:power=two", "iou.power: got 'two'"),
        ("iou:power=0", "iou.power: got 0"),
        ("iou:fp_weight=nan", "iou.fp_weight"),
        ("iou:fp_weight=0,fn_weight=0", "both 0"),
        ("dice:weighting=cube", "dice.weighting: got 'cube'; allowed: uniform, simple, square"),
        ("dice:weighting=square", "needs class_voxels"),
        ("dice:reduce=all", "dice.reduce"),
        ("dice:ignore=bone", "dice.ignore: got 'bone'"),
        ("cross_entropy:class_weights=inverse", "needs class_voxels"),
        ("cross_entropy:class_weights=heavy", "allowed: balanced, inverse"),
        ("cross_entropy:class_weights=1/-2", "finite numbers >= 0"),
        ("cross_entropy:class_weights=0/0", "not all of them 0"),
        ("iou*2", "there is no '2'"),
        ("-1*iou", "sum.weights"),
        ("two*iou", "got"),
        ("multi_resolution", "of what"),
        ("multi_resolution:alphas=1(iou", "allowed: such as iou"),
        ("multi_resolution:alphas=0/0(iou)", "not all of them 0"),
        ("multi_resolution:alphas=3(iou)", "multi_resolution"),
        ("multi_resolution:alphas=0.5/1,trainable=true(iou)", "1 for the finest"),
        ("multi_resolution:alphas=1/0,trainable=true(iou)", "above 0"),
        ("dice:ignore=3+iou:ignore=4", "one for all its losses"),
        ({"name": "sum", "losses": []}, "no loss"),
        ({"name": "sum"}, "sum.losses"),
        ({"name": "sum", "losses": ["iou"], "weights": [1, 2]}, "one per loss"),
        ({"name": "sum", "losses": [3]}, "got 3"),
        ({"weighting": "simple"}, "no ''"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_allowed(given: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_loss(given)
    assert message in str(caught.value)


def test_curves_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"iou\.curve: it is \[1\.0, 2\.0\] at 0 and 1"):
        IoU(curve=lambda p: p + 1)
    with pytest.raises(ConfigError, match="one of them"):
        IoU(power=2, curve=lambda p: p)


def test_uniform_weights_need_and_keep_no_counts() -> None:
    assert parse_loss("dice", class_voxels={}).get_config()["class_voxels"] is None


@pytest.mark.parametrize("text", ["iou", "cross_entropy:class_weights=inverse+0.5*dice:weighting=simple", "multi_resolution(iou+dice)"])
def test_an_ignored_id_is_that_of_all_losses_unless_one_is_named(text: str) -> None:
    voxels = {0: 90, 1: 5, 2: 40}
    loss = parse_loss(text, class_voxels=voxels, ignore=2)
    assert loss.ignore == 2
    parts = getattr(loss, "losses", [getattr(loss, "loss", loss)])
    assert {each.ignore for each in parts} == {2}
    named = parse_loss(text.replace("iou", "iou:ignore=7").replace("dice:", "dice:ignore=7,"), class_voxels=voxels, ignore=2)
    assert named.ignore == 7
