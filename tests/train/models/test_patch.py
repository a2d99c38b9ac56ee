"""Patches that the strides allow and forbid, and other arguments that no network can be built with."""

from __future__ import annotations

from typing import Any

import pytest
from augclient.errors import ConfigError, PatchError
from augtrain.models import NETWORKS, residual_unet3d, unet3d


@pytest.mark.parametrize(
    ("name", "patch", "nearest"),
    [
        ("rister_fcn", (119, 120, 160), (120, 120, 160)),
        ("rister_fcn", (120, 123, 165), (120, 120, 168)),
        ("unet3d", (1, 64, 64), (8, 64, 64)),
        ("residual_unet3d", (120, 120, 160), (128, 128, 160)),
        ("unet2d", (1, 250, 256), (1, 256, 256)),
        ("fcn2d", (1, 256, 240), (1, 256, 256)),
        ("deeplabv3", (5, 17, 256), (5, 16, 256)),
    ],
)
def test_a_patch_off_the_strides_is_refused_and_the_nearest_named(
    name: str, patch: tuple[int, int, int], nearest: tuple[int, int, int]
) -> None:
    with pytest.raises(PatchError) as raised:
        NETWORKS[name].check_patch(patch)
    assert f"nearest allowed patch is {nearest}" in str(raised.value)
    assert name in str(raised.value)
    assert NETWORKS[name].check_patch(nearest) == nearest
    with pytest.raises(PatchError, match="nearest allowed"):
        NETWORKS[name].build(2, width=0.1, patch=patch)


@pytest.mark.parametrize("patch", [(64, 64), (64, 64, 64, 1), (64.0, 64, 64), "abc", (0, 64, 64), (-8, 64, 64), 64])
def test_what_is_no_patch_is_refused(patch: Any) -> None:
    with pytest.raises(PatchError, match="unet3d"):
        NETWORKS["unet3d"].check_patch(patch)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_registry_tells_dimensions_multiple_and_heads_as_built(name: str) -> None:
    network = NETWORKS[name]
    assert network.name == name
    sides = tuple(2 * step for step in network.multiple)
    model = network.build(4, channels=2, width=0.06, patch=sides)
    space = sides[3 - network.dimensions :]
    assert model.name == name
    assert tuple(model.input.shape) == (None, *space, 2)
    shapes = [tuple(output.shape) for output in model.outputs]
    assert shapes == [(None, *(side // 2**head for side in space), 4) for head in range(network.heads)]
    assert {output.dtype for output in model.outputs} == {"float32"}


def test_heads_are_chosen_and_one_head_is_no_list() -> None:
    assert len(residual_unet3d(2, width=0.1, heads=2).outputs) == 2
    assert tuple(residual_unet3d(2, width=0.1, heads=1, patch=(16, 16, 32)).output.shape) == (None, 16, 16, 32, 2)
    with pytest.raises(ConfigError, match="heads must be 1, 2 or 3"):
        residual_unet3d(2, heads=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes must be"),
        ({"classes": 2.0}, "classes must be"),
        ({"classes": 2, "channels": 0}, "channels must be"),
        ({"classes": 2, "width": 0}, "width must be"),
        ({"classes": 2, "width": float("nan")}, "width must be"),
    ],
)
def test_other_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        unet3d(**options)
