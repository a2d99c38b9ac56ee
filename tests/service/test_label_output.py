"""The labels of a stream under output.labels, output.outside_label and output.border: each sample can be made again from its provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import augclient
import numpy as np
import pytest

from augserver.store import Dataset, DatasetWriter

IGNORE, LIVER = 1, 4
SHAPE = (20, 31, 44)
PATCH = (12, 24, 40)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., Any]) -> Iterator[Any]:
    path: Path = tmp_path_factory.mktemp("store") / "ignored.zarr"
    rng = np.random.default_rng(3)
    coarse = rng.choice(np.array([0, IGNORE, LIVER], np.uint8), (7, 11, 15))
    label = np.kron(coarse, np.ones((3, 3, 3), np.uint8))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    with DatasetWriter(path, modality="ct", classes={IGNORE: "ignore", LIVER: "liver"}) as writer:
        writer.write("case", rng.integers(-900, 900, (1, *SHAPE)).astype(np.int16), label, (1.0, 1.0, 1.0), np.eye(4), {})
        writer.finish()
    with augclient.connect(str(start_server(Dataset.open(path)).server.address)) as connected:
        yield connected


@pytest.mark.parametrize(
    "output", [{"labels": "linear", "outside_label": "ignore"}, {"outside_label": 200}, {"labels": "linear", "border": "edge"}]
)
def test_a_sample_is_made_again_from_its_provenance(client: Any, output: dict[str, Any]) -> None:
    recipe = augclient.Recipe(
        affine={"rotate_deg": 40, "scale": [1.0, 1.4]}, occlude={"max_voxels": 9}, labels={"keep": ["liver"]}, output=output
    )
    whole = client.volume("case")
    found = set()
    with client.stream(recipe, patch=PATCH, batch_size=3, seed=8, steps=3) as stream:
        for batch in stream:
            for k, sample in enumerate(batch.samples):
                transform = augclient.Transform(
                    affine=sample.affine,
                    fill=sample.fill,
                    occlusion=sample.occlusion,
                    keep_labels={IGNORE, LIVER},
                    ignore_label=IGNORE,
                    label_rule=sample.label_rule,
                    outside_label=sample.outside_label,
                    border=sample.border,
                )
                ((image, label),) = client.warp([(whole.image, whole.label)], transform, shape=PATCH)
                np.testing.assert_array_equal(image, batch.image[k])
                np.testing.assert_array_equal(label, batch.label[k])
                found |= set(np.unique(label).tolist())
    outside = {"ignore": IGNORE}.get(output.get("outside_label"), output.get("outside_label", 0))
    assert found == {0, IGNORE, LIVER, outside}


def test_ignored_voxels_stay_ignored_inside_the_slab(client: Any) -> None:
    streams = []
    for extra in ({}, {"occlude": {"max_voxels": 11, "label": 0}}):
        with client.stream(augclient.Recipe(**extra), patch=PATCH, batch_size=8, seed=2, steps=1) as stream:
            streams.append(next(iter(stream)))
    plain, occluded = streams
    hidden = 0
    for k, sample in enumerate(occluded.samples):
        z0, z1 = sample.occlusion or (0, 0)
        expected = plain.label[k].copy()
        expected[z0:z1] = np.where(expected[z0:z1] == IGNORE, IGNORE, 0)
        np.testing.assert_array_equal(occluded.label[k], expected)
        hidden += z1 - z0
    assert len(occluded.samples) == 8
    assert hidden > 10


def test_the_ignored_class_is_not_what_a_foreground_crop_looks_for(client: Any) -> None:
    with client.stream(
        augclient.Recipe(crop={"mode": "foreground", "pad": True}), patch=(1, 1, 1), batch_size=40, seed=1, steps=1
    ) as stream:
        (batch,) = list(stream)
    assert batch.label.size == 40
    assert set(batch.label.ravel().tolist()) == {LIVER}
