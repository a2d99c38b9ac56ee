"""Server.warp as a caller meets it: iterator in, iterator out, whatever either end does in between."""

from __future__ import annotations

import functools
import gc
import itertools
import signal
import threading
from collections.abc import Iterator

import augclient
import numpy as np
import pytest
from augclient.errors import GeometryError, RecipeError, RequestError, StateError, UnavailableError, WireError

from augserver.kernel import warp as warp_on

warp = functools.partial(warp_on, backend="cpu")  # what every backend must equal
AFFINE = np.array([[0.9, 0.1, -0.2, 1.3], [0.15, -1.1, 0.05, 8.2], [0.1, 0.2, 0.8, -0.6]])
SHAPE = (6, 5, 9)


def image_of(number: int, *, channels: int = 0) -> np.ndarray:
    shape = (channels, 7, 9, 11) if channels else (7, 9, 11)
    return np.random.default_rng(number).integers(-1000, 1500, shape).astype(np.int16)


def label_of(number: int) -> np.ndarray:
    return (np.abs(image_of(number)) % 7).astype(np.uint8)


@pytest.fixture(scope="module")
def server(running):
    with augclient.connect(str(running.server.address)) as connected:
        yield connected


@pytest.fixture(autouse=True)
def nothing_is_left(running) -> Iterator[None]:
    """No thread of ours, no call and no byte outlives a test."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert running.server.service.wait_idle(10.0)
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("call"):  # of the server's pool, which grows as it likes
            thread.join(10)
            assert not thread.is_alive(), thread.name
    assert running.server.service.warps.statistics().used_bytes == 0


def test_a_transform_says_how_labels_are_taken_and_what_lies_outside(server):
    volume = image_of(3, channels=2), label_of(3)
    inside = np.ones(SHAPE, bool)
    found = {}
    for rule in ("nearest", "linear"):
        for border in ("fill", "edge"):
            transform = augclient.Transform(affine=AFFINE, label_rule=rule, outside_label=99, border=border, fills=(-5.0, 8.0))
            ((image, label),) = server.warp([volume], transform, shape=SHAPE)
            for channel, fill in zip((0, 1), (-5.0, 8.0), strict=True):
                one, ids = warp(
                    volume[0][channel], AFFINE, SHAPE, label=volume[1], fill=fill, label_rule=rule, outside_label=99, border=border
                )
                np.testing.assert_array_equal(image[channel], one)
                np.testing.assert_array_equal(label, ids)
            found[rule, border] = label
            inside &= label != 99
    assert not inside.all()
    assert (found["nearest", "edge"] != 99).all()
    assert (found["nearest", "fill"][inside] == found["nearest", "edge"][inside]).all()
    assert (found["nearest", "edge"] != found["linear", "edge"]).any()
    with pytest.raises(RecipeError, match="item 0: transform: fills is given for 3 channels; allowed: 2"):
        list(server.warp([volume], augclient.Transform(affine=AFFINE, fills=(1, 2, 3)), shape=SHAPE))
    with pytest.raises(RecipeError, match="label_rule is 'lin'; allowed: 'nearest', 'linear'"):
        list(server.warp([volume], augclient.Transform(affine=AFFINE, label_rule="lin"), shape=SHAPE))


def test_each_volume_gives_what_the_kernel_gives_in_its_own_form(server):
    volumes = [image_of(0), image_of(1, channels=2), (image_of(2), label_of(2)), image_of(3).astype(np.float32) + 0.25, (image_of(4), None)]
    one, two, three, four, five = server.warp(volumes, augclient.Transform(affine=AFFINE, fill=-5.0), shape=SHAPE)
    np.testing.assert_array_equal(one, warp(volumes[0], AFFINE, SHAPE, fill=-5.0))
    np.testing.assert_array_equal(two, warp(volumes[1], AFFINE, SHAPE, fill=-5.0))
    image, label = warp(*volumes[2][:1], AFFINE, SHAPE, label=label_of(2), fill=-5.0)
    np.testing.assert_array_equal(three[0], image)
    np.testing.assert_array_equal(three[1], label)
    np.testing.assert_array_equal(four, warp(volumes[3], AFFINE, SHAPE, fill=-5.0))
    assert five[0].shape == SHAPE
    assert five[1] is None


def test_each_item_has_its_own_transform_and_results_keep_their_order(server):
    transforms = [
        augclient.Transform(affine=AFFINE, interpolation=("linear", "nearest")[k % 2], noise_std=float(k), noise_key=k * 2**60 + 3, fill=k)
        for k in range(12)
    ]
    results = list(server.warp([image_of(k) for k in range(12)], transforms, shape=SHAPE))
    for k, (result, each) in enumerate(zip(results, transforms, strict=True)):
        expected = warp(
            image_of(k), AFFINE, SHAPE, interpolation=each.interpolation, noise_std=each.noise_std, noise_key=each.noise_key, fill=k
        )
        assert result.tobytes() == expected.tobytes()


def test_all_parameters_survive_the_wire(server):
    transform = augclient.Transform(
        window=(-500, 700), occlusion=(1, 3), occlusion_label=None, contrast=1.5, pivot=100, brightness=-20, gamma=2.0, keep_labels=[1, 3]
    )
    [(image, label)] = server.warp([(image_of(6), label_of(6))], transform, image_dtype="float16")
    values = np.clip((100 + 1.5 * (image_of(6) - 100.0) - 20 + 500) / 1200, 0, 1) ** 2
    values[1:3] = 500 / 1200
    assert image.dtype == np.float16
    np.testing.assert_allclose(image, values, atol=1e-3)
    np.testing.assert_array_equal(label, np.where(np.isin(label_of(6), (1, 3)), label_of(6), 0))


def test_one_transform_for_all_never_repeats_its_noise(server):
    results = list(server.warp([image_of(1)] * 3, augclient.Transform(noise_std=30.0)))
    for first, second in itertools.combinations(results, 2):
        assert (first != second).mean() > 0.9
    again = list(server.warp([image_of(1)] * 3, augclient.Transform(noise_std=30.0)))
    np.testing.assert_array_equal(results, again)


def test_a_large_volume_travels_in_many_parts(server):
    image = np.random.default_rng(1).integers(-1000, 1500, (2, 90, 130, 110)).astype(np.int16)
    [result] = server.warp([image], augclient.Transform())
    np.testing.assert_array_equal(result, image)


def test_infinite_iterators_are_pulled_no_further_than_prefetch(server):
    pulled = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal pulled
        for number in itertools.count():
            pulled = number + 1
            yield image_of(number % 3)

    with server.warp(endless(), itertools.repeat(augclient.Transform()), prefetch=3) as stream:
        for taken in range(1, 20):
            result = next(stream)
            np.testing.assert_array_equal(result, image_of((taken - 1) % 3))
            assert pulled <= taken + 3


def test_a_loop_that_breaks_and_forgets_the_stream_ends_the_call(server):
    for _ in server.warp(itertools.repeat(image_of(0)), augclient.Transform()):
        break


def test_an_exception_in_the_callers_iterator_surfaces_after_the_results_before_it(server):
    def breaks() -> Iterator[np.ndarray]:
        yield image_of(0)
        yield image_of(1)
        raise ZeroDivisionError("of the caller")

    stream = server.warp(breaks(), augclient.Transform())
    for number in range(2):
        np.testing.assert_array_equal(next(stream), image_of(number))
    with pytest.raises(ZeroDivisionError, match="of the caller"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_an_exception_in_the_loop_ends_the_call(server):
    with pytest.raises(ZeroDivisionError), server.warp(itertools.repeat(image_of(0)), augclient.Transform()) as stream:  # noqa: PT012
        next(stream)
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("volume", "transform", "error", "message"),
    [
        (image_of(2), augclient.Transform(affine=np.full((3, 4), np.nan)), GeometryError, "item 2: .*not finite"),
        (image_of(2), augclient.Transform(window=(5.0, 5.0)), RecipeError, "item 2: .*low < high"),
        (image_of(2), augclient.Transform(affine=np.eye(3)), GeometryError, "item 2: affine: got shape"),
        (image_of(2), augclient.Transform(noise_key=-1), RequestError, "item 2: transform: "),
        (image_of(2), augclient.Transform(window=(1.0, 2.0, 3.0)), RequestError, "item 2: transform: "),
        (image_of(2), augclient.Transform(interpolation="cubic"), RequestError, "item 2: .*linear, nearest"),
        (image_of(2), augclient.Transform(keep_labels=[]), RequestError, "item 2: .*None, which keeps all"),
        (image_of(2), "identity", RequestError, "item 2: transform: got str"),
        (image_of(2)[0], augclient.Transform(), RequestError, r"item 2: image: got shape \(9, 11\)"),
        (image_of(2) + 0.1, augclient.Transform(), RequestError, "item 2: image: got float64"),
        ((image_of(2), label_of(2)[1:]), augclient.Transform(), RequestError, "item 2: label: got shape"),
        ((image_of(2), label_of(2) - 1.0), augclient.Transform(), RequestError, "item 2: label: got float64"),
        ((image_of(2), label_of(2), 3), augclient.Transform(), RequestError, "item 2: volume: got a tuple of 3"),
    ],
)
def test_a_bad_item_raises_in_its_turn_and_the_server_goes_on(server, volume, transform, error, message):
    good = augclient.Transform()
    stream = server.warp([image_of(0), image_of(1), volume, image_of(3)], [good, good, transform, good])
    assert [next(stream).shape for _ in range(2)] == [(7, 9, 11)] * 2
    with pytest.raises(error, match=message):
        next(stream)
    assert len(list(server.warp([image_of(0)], good))) == 1


def test_too_few_transforms_are_an_error_and_too_many_are_not(server):
    stream = server.warp([image_of(0), image_of(1)], [augclient.Transform()])
    next(stream)
    with pytest.raises(RequestError, match="transforms ended after 1"):
        next(stream)
    assert len(list(server.warp([image_of(0)], [augclient.Transform()] * 2))) == 1


def test_arguments_are_checked_before_the_call(server):
    for arguments in ({"shape": (3, 4)}, {"shape": (3, 4, 0)}, {"image_dtype": "float64"}, {"prefetch": 0}):
        with pytest.raises(RequestError):
            server.warp([image_of(0)], augclient.Transform(), **arguments)


def test_a_closed_stream_says_so(server):
    stream = server.warp([image_of(0)], augclient.Transform())
    stream.close()
    stream.close()
    with pytest.raises(StateError, match="closed, at item 0"):
        next(stream)


def test_a_result_is_not_overwritten_by_later_ones(server):
    results = []
    for number, result in enumerate(server.warp(map(image_of, range(8)), augclient.Transform())):
        results.append(result[2:5])
        for k in range(number + 1):
            np.testing.assert_array_equal(results[k], image_of(k)[2:5])
    assert len(results) == 8


def test_a_server_that_goes_away_is_an_error_that_says_from_where_to_go_on(dataset, start_server):
    running = start_server(dataset)
    with augclient.connect(str(running.server.address)) as server:
        stream = server.warp(itertools.repeat(image_of(0)), augclient.Transform(), prefetch=1)
        next(stream)
        running.server.stop()
        with pytest.raises(UnavailableError, match=r"Items from \d+ on have no result, .* cannot be resumed by number") as caught:
            for _ in stream:
                pass
        assert "Items from 0" not in str(caught.value)


def test_a_server_that_answers_nonsense_is_found_out(server, monkeypatch):
    stream = server.warp([image_of(0), image_of(1)], augclient.Transform())
    monkeypatch.setattr(stream, "_dtype", np.dtype("float16"))
    with pytest.raises(WireError, match=r"float32.*due are.*float16"):
        next(stream)


def test_an_interrupt_ends_the_stream_and_says_from_which_item_on(server):
    def interrupt(*_):
        raise KeyboardInterrupt

    volumes = [image_of(k) for k in range(6)]
    results = server.warp(iter(volumes), augclient.Transform(affine=AFFINE), shape=SHAPE)
    first = next(results)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        results._feed.deliver = lambda: signal.raise_signal(signal.SIGALRM)  # the last moment: the result has come whole
        with pytest.raises(KeyboardInterrupt):
            next(results)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(StateError, match=r"interrupted and has ended\. Items from 1 on have no result"):
        next(results)
    rest = list(server.warp(volumes[1:], augclient.Transform(affine=AFFINE), shape=SHAPE))
    for result, volume in zip([first, *rest], volumes, strict=True):
        np.testing.assert_array_equal(result, warp(volume, AFFINE, SHAPE))
