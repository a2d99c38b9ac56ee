"""What a server says of a volume, as the client takes it."""

from __future__ import annotations

import numpy as np
import pytest
from augclient.dataset import info_from_proto
from augclient.errors import WireError
from augclient.wire.v1 import augserver_pb2 as pb


def message(**fields: object) -> pb.VolumeInfo:
    known = {"id": "a", "shape": [1, 5, 7, 11], "dtype": "int16", "spacing_mm": [3, 1, 0.5], "affine": np.eye(4).ravel()}
    return pb.VolumeInfo(**known | fields)


def test_the_grid_of_the_scan_comes_along() -> None:
    info = info_from_proto(message(source_shape=[11, 7, 5], source_affine=np.arange(16.0)))
    assert info.source_shape == (11, 7, 5)
    np.testing.assert_array_equal(info.source_affine, np.arange(16.0).reshape(4, 4))


def test_a_server_that_does_not_know_the_grid_of_the_scan_says_so() -> None:
    info = info_from_proto(message())
    assert (info.source_shape, info.source_affine) == (None, None)


@pytest.mark.parametrize(
    "fields", [{"source_shape": [11, 7, 5]}, {"source_affine": np.ones(16)}, {"source_shape": [1, 2], "source_affine": [1]}]
)
def test_half_a_grid_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(WireError, match="source_shape"):
        info_from_proto(message(**fields))
