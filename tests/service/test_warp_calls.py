"""Warp as a client of any language meets it: generated code on one side, kernel.warp and SciPy as what must come out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from augclient.wire.v1 import augserver_pb2 as pb
from scipy.ndimage import map_coordinates

from augserver.kernel import warp

SHEAR = np.array([[0.913, 0.107, -0.211, 1.3141], [0.151, -1.109, 0.053, 8.2171], [0.101, 0.197, 0.811, -0.6173]], np.float32)  # no ties
SHAPE = (6, 5, 9)


def volume(number: int, *, channels: int = 1, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(number).integers(-1000, 1500, (channels, 7, 9, 11)).astype(dtype)


def item(number: int, image: np.ndarray, label: np.ndarray | None = None, **fields: object) -> pb.WarpPart:
    """A whole item in one message."""
    transform = fields.pop("transform", None) or pb.Transform(affine=SHEAR.ravel().tolist())
    header = {"image_shape": image.shape, "image_dtype": image.dtype.name, "has_label": label is not None, "output_shape": SHAPE}
    return pb.WarpPart(
        item=number,
        header=pb.WarpItem(transform=transform, **{**header, **fields}),
        image=image.tobytes(),
        label=b"" if label is None else label.tobytes(),
        last=True,
    )


def cut(whole: pb.WarpPart, size: int) -> Iterator[pb.WarpPart]:
    """The same item in parts of at most `size` bytes, image before label."""
    for start in range(0, len(whole.image), size):
        part = pb.WarpPart(item=whole.item, image_offset=start, image=whole.image[start : start + size])
        if start == 0:
            part.header.CopyFrom(whole.header)
        yield part
    for start in range(0, len(whole.label), size):
        yield pb.WarpPart(item=whole.item, label_offset=start, label=whole.label[start : start + size])
    yield pb.WarpPart(item=whole.item, last=True)


def results(call) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Whole results, put together by their offsets."""
    done = []
    for part in call:
        if part.HasField("header"):
            header, image, label = part.header, bytearray(), bytearray()
        assert part.item == len(done)
        assert (part.image_offset or len(image)) == len(image)
        image += part.image
        label += part.label
        if part.last:
            array = np.frombuffer(image, header.image_dtype).reshape(header.image_shape)
            done.append((array, np.frombuffer(label, np.uint8).reshape(header.image_shape[1:]) if header.has_label else None))
    return done


def refusal(call) -> tuple[grpc.StatusCode, str, str, int]:
    """Status, class and message that end a call, and how many results came before."""
    count = 0
    try:
        for part in call:
            count += part.last
    except grpc.RpcError as error:
        return error.code(), dict(error.trailing_metadata())["augserver-error"], error.details(), count
    raise AssertionError(f"the call ended well, after {count} results")


def assert_nothing_left(running) -> None:
    assert running.server.service.warps.statistics().used_bytes == 0
    assert running.server.service.streams == 0
    assert results(running.stub.Warp(iter([item(0, volume(3))])))[0][0].shape == (1, *SHAPE)  # and it serves on


def test_results_come_in_order_and_are_those_of_the_kernel(running):
    images = [volume(k, channels=1 + k % 3, dtype=("int16", "float32")[k % 2]) for k in range(8)]
    labels = [None if k % 3 == 0 else (np.abs(image[0]) % 7).astype(np.uint8) for k, image in enumerate(images)]
    whole = [item(k, *pair) for k, pair in enumerate(zip(images, labels, strict=True))]
    for messages in (whole, [part for each in whole for part in cut(each, 333)]):
        got = results(running.stub.Warp(iter(messages)))
        assert len(got) == len(images)
        for (image, label), source, ids in zip(got, images, labels, strict=True):
            expected = warp(source, SHEAR, SHAPE, label=ids, backend="cpu")
            assert image.tobytes() == (expected if ids is None else expected[0]).tobytes()
            assert (label is None) == (ids is None)
            if label is not None:
                assert label.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize(("interpolation", "order"), [(pb.LINEAR, 1), (pb.NEAREST, 0)])
def test_the_image_is_what_scipy_makes_with_the_fill_outside(running, interpolation, order):
    image = volume(5, channels=2)
    transform = pb.Transform(affine=SHEAR.ravel().tolist(), fill=-777.0)
    [(got, _)] = results(running.stub.Warp(iter([item(0, image, transform=transform, interpolation=interpolation)])))
    grid = np.indices(SHAPE, np.float64).reshape(3, -1)
    points = SHEAR[:, :3].astype(np.float64) @ grid + SHEAR[:, 3:].astype(np.float64)
    assert len(got) == 2
    for channel, source in zip(got, image, strict=True):
        expected = map_coordinates(source.astype(np.float64), points, order=order, mode="grid-constant", cval=-777.0)
        np.testing.assert_allclose(channel.ravel(), expected, atol=0.05)
        assert (expected == -777.0).any()


def test_every_parameter_reaches_the_kernel(running):
    image, label = volume(6), (np.abs(volume(6)[0]) % 5).astype(np.uint8)
    transform = pb.Transform(
        affine=np.eye(3, 4).ravel().tolist(),
        window_low=-500,
        window_high=700,
        occlusion_start=1,
        occlusion_stop=3,
        contrast=1.5,
        pivot=100.0,
        brightness=-20.0,
        gamma=2.0,
        occlusion_label=9,
        keep_labels=[1, 3],
    )
    [(got, ids)] = results(running.stub.Warp(iter([item(0, image, label, transform=transform, output_shape=(7, 9, 11))])))
    values = np.clip((100 + 1.5 * (image[0] - 100.0) - 20 + 500) / 1200, 0, 1) ** 2
    values[1:3] = 500 / 1200  # fill 0 through the window
    np.testing.assert_allclose(got[0], values, atol=1e-5)
    expected = np.where(np.isin(label, (1, 3)), label, 0)
    expected[1:3] = 9
    np.testing.assert_array_equal(ids, expected)
    transform.keep_occluded_label = True
    [(_, kept)] = results(running.stub.Warp(iter([item(0, image, label, transform=transform, output_shape=(7, 9, 11))])))
    np.testing.assert_array_equal(kept, np.where(np.isin(label, (1, 3)), label, 0))


@pytest.mark.parametrize(("number", "dtype"), [(pb.FLOAT32, "float32"), (pb.FLOAT16, "float16"), (pb.UINT8, "uint8")])
def test_the_result_has_the_dtype_that_was_asked_for(running, number, dtype):
    transform = pb.Transform(affine=np.eye(3, 4).ravel().tolist(), window_low=-1000, window_high=1500)
    [(got, _)] = results(running.stub.Warp(iter([item(0, volume(1), transform=transform, output_dtype=number)])))
    assert got.dtype == dtype
    expected = np.clip((volume(1)[0, :6, :5, :9] + 1000.0) / 2500.0, 0, 1)
    np.testing.assert_allclose(got[0] / (255 if dtype == "uint8" else 1), expected, atol=3e-3)


def test_voxels_of_the_far_faces_keep_their_values(running):
    image = volume(2)
    transform = pb.Transform(affine=np.eye(3, 4).ravel().tolist(), fill=0.0)
    [(got, _)] = results(running.stub.Warp(iter([item(0, image, transform=transform, output_shape=image.shape[1:])])))
    np.testing.assert_array_equal(got, image)


def test_noise_differs_from_item_to_item_unless_a_key_says_otherwise(running):
    image, affine = volume(2), np.eye(3, 4).ravel().tolist()
    free, keyed = pb.Transform(affine=affine, noise_std=50.0), pb.Transform(affine=affine, noise_std=50.0, noise_key=1)
    first, second, third = (
        got for got, _ in results(running.stub.Warp(item(k, image, transform=each) for k, each in enumerate((free, free, keyed))))
    )
    assert (first != second).mean() > 0.9
    np.testing.assert_array_equal(second, third)  # the key of item 1 is 1
    assert 40 < (first - image[:, :6, :5, :9]).std() < 60


EYE = np.eye(3, 4).ravel().tolist()


@pytest.mark.parametrize(
    ("change", "status", "kind", "message"),
    [
        ({"transform": pb.Transform(affine=[float("nan")] * 12)}, "INVALID_ARGUMENT", "GeometryError", "not finite"),
        ({"transform": pb.Transform(affine=[1.0] * 9)}, "INVALID_ARGUMENT", "GeometryError", "12 numbers"),
        ({"transform": pb.Transform(affine=EYE, window_low=3, window_high=3)}, "INVALID_ARGUMENT", "RecipeError", "low < high"),
        ({"transform": pb.Transform(affine=EYE, window_low=3)}, "INVALID_ARGUMENT", "RecipeError", "go together"),
        ({"transform": pb.Transform(affine=EYE, noise_std=-1)}, "INVALID_ARGUMENT", "RecipeError", "noise_std"),
        ({"transform": pb.Transform(affine=EYE, noise_std=float("nan"))}, "INVALID_ARGUMENT", "RecipeError", "noise_std"),
        ({"transform": pb.Transform(affine=EYE, occlusion_start=2, occlusion_stop=7)}, "INVALID_ARGUMENT", "RecipeError", "occlusion"),
        ({"transform": pb.Transform(affine=EYE, keep_labels=[256])}, "INVALID_ARGUMENT", "RecipeError", "label 256"),
        ({"output_shape": (6, 5)}, "INVALID_ARGUMENT", "PatchError", "three sizes"),
        ({"output_shape": (6, 5, 0)}, "INVALID_ARGUMENT", "PatchError", "1 or more"),
        ({"output_shape": (2**31, 2**31, 4)}, "RESOURCE_EXHAUSTED", "BudgetError", "limits.max_patch_voxels"),
        ({"output_dtype": pb.UINT8}, "INVALID_ARGUMENT", "RecipeError", "window"),
        ({"output_dtype": 7}, "INVALID_ARGUMENT", "RequestError", "number 7"),
        ({"interpolation": 7}, "INVALID_ARGUMENT", "RequestError", "LINEAR, NEAREST"),
        ({"image_dtype": "float64"}, "INVALID_ARGUMENT", "RequestError", "int16 or float32"),
        ({"image_shape": (9, 7, 9, 11)}, "INVALID_ARGUMENT", "RequestError", "1 to 8 channels"),
        ({"image_shape": (1, 7, 9)}, "INVALID_ARGUMENT", "RequestError", "C, Z, Y, X"),
        ({"image_shape": (1, 7, 9, 12)}, "INVALID_ARGUMENT", "RequestError", "ended after 1386 of 1512 image bytes"),
        ({"image_shape": (1, 7, 9, 10)}, "INVALID_ARGUMENT", "RequestError", "without gap or overlap"),
        ({"has_label": True}, "INVALID_ARGUMENT", "RequestError", "0 of 693 label bytes"),
        ({"image_shape": (1, 1000, 1000, 1000)}, "RESOURCE_EXHAUSTED", "BudgetError", "warp.max_stream_bytes"),
    ],
)
def test_a_bad_item_ends_the_call_with_its_number_after_the_results_before_it(running, change, status, kind, message):
    items = [item(0, volume(0)), item(1, volume(1)), item(2, volume(2), **change), item(3, volume(3))]
    code, name, details, count = refusal(running.stub.Warp(iter(items)))
    assert (code.name, name, count) == (status, kind, 2)
    assert details.startswith("item 2: ")
    assert message in details
    assert_nothing_left(running)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([pb.WarpPart(item=0, last=True)], "item 0: its first part came without a header"),
        ([item(1, volume(1))], "item 0: a part of item 1 came instead"),
        (list(cut(item(0, volume(1)), 500))[:-1], "item 0: the call ended before its last part"),
        ([*list(cut(item(0, volume(1)), 500))[:1] * 2], "item 0: a second header"),
    ],
)
def test_parts_that_do_not_make_an_item_are_refused(running, messages, message):
    code, kind, details, count = refusal(running.stub.Warp(iter(messages)))
    assert (code.name, kind, count) == ("INVALID_ARGUMENT", "RequestError", 0)
    assert message in details
    assert_nothing_left(running)


def test_an_unknown_field_of_a_newer_client_is_not_dropped_in_silence(running):
    header = pb.WarpItem(transform=pb.Transform(affine=EYE), image_shape=(1, 1, 1, 1), image_dtype="int16", output_shape=(1, 1, 1))
    header.MergeFromString(b"\xa0\x06\x01")  # field 100 = 1
    code, _, details, _ = refusal(running.stub.Warp(iter([pb.WarpPart(header=header, image=b"00", last=True)])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "[100]" in details


def test_a_call_without_items_ends_well(running):
    assert results(running.stub.Warp(iter([]))) == []


def test_a_client_that_reads_nothing_stops_its_own_sending_and_leaves_nothing(dataset, start_server):
    running = start_server(dataset, warp={"max_stream_bytes": 1 << 20, "max_bytes": 2 << 20})
    sent = 0
    stopped = threading.Event()

    def endless() -> Iterator[pb.WarpPart]:
        nonlocal sent
        for number in range(10_000):
            if stopped.is_set():
                return
            sent = number
            yield item(number, np.zeros((1, 40, 60, 70), np.int16), output_shape=(40, 60, 70))  # 1 MB with its result

    call = running.stub.Warp(endless())
    next(call)  # the first results are there, and no further one is asked for
    assert running.server.service.warps.statistics().used_bytes <= 1 << 20
    other = results(running.stub.Warp(iter([item(0, volume(1))])))  # while others go on
    assert len(other) == 1
    assert sent < 100
    stopped.set()
    call.cancel()
    assert running.server.service.wait_idle(10.0)
    assert_nothing_left(running)


def test_what_other_calls_hold_is_refused_with_the_name_of_the_budget(dataset, start_server):
    running = start_server(dataset, warp={"max_stream_bytes": 1 << 20, "max_bytes": 1 << 20})
    release = threading.Event()
    began = threading.Event()

    def slow() -> Iterator[pb.WarpPart]:
        yield from list(cut(item(0, np.zeros((1, 40, 60, 70), np.int16), output_shape=(40, 60, 70)), 100_000))[:-1]
        began.set()
        release.wait(30)
        yield pb.WarpPart(item=0, last=True)

    call = running.stub.Warp(slow())
    assert began.wait(10)
    while not running.server.service.warps.statistics().used_bytes:
        pass
    code, _, details, _ = refusal(running.stub.Warp(iter([item(0, np.zeros((1, 40, 60, 70), np.int16))])))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "warp.max_bytes = 1048576" in details
    release.set()
    assert len(results(call)) == 1
    assert_nothing_left(running)


def test_a_drain_sends_what_is_computed_and_says_where_to_go_on(dataset, start_server):
    running = start_server(dataset)
    drained = threading.Event()

    def items() -> Iterator[pb.WarpPart]:
        yield item(0, volume(0))
        drained.wait(30)

    call = running.stub.Warp(items())
    assert next(call).last
    running.server.drain()
    code, kind, details, _ = refusal(call)
    drained.set()
    assert (code.name, kind) == ("UNAVAILABLE", "UnavailableError")
    assert "items from 1 on have no result" in details
    assert running.server.service.wait_idle(10.0)
