"""The stream as a torch IterableDataset."""

from __future__ import annotations

import json

import augclient
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from augclient.torch import BatchDataset  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe(noise={"std": [0, 30]})


def assert_steps(toy, batches, steps):
    for step, (image, label) in zip(steps, batches, strict=True):
        assert image.dtype == torch.float32
        assert label.dtype == torch.uint8
        for k in range(4):
            np.testing.assert_array_equal(image[k].numpy(), toy.toy_image(step * 4 + k, PATCH))
            np.testing.assert_array_equal(label[k].numpy(), toy.toy_label(step * 4 + k, PATCH))


def test_tensors_share_the_received_memory_and_outlive_their_batch(toy, running):
    dataset = BatchDataset(running.address, RECIPE, patch=PATCH, batch_size=4, start=2, steps=30)
    batches = list(DataLoader(dataset, batch_size=None))
    assert all(image.data_ptr() % 64 == 0 for image, _ in batches)
    assert_steps(toy, batches, range(2, 32))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes", "ignore:.*use of fork")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_split_the_steps_and_keep_their_order(toy, server_process, context):
    dataset = BatchDataset(server_process.address, RECIPE, patch=PATCH, batch_size=4, start=1, steps=11)
    loader = DataLoader(dataset, batch_size=None, num_workers=3, multiprocessing_context=context, timeout=60)
    assert_steps(toy, loader, range(1, 12))


def test_state_resumes_at_the_next_undelivered_batch(toy, running):
    dataset = BatchDataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=9)
    iterator = iter(DataLoader(dataset, batch_size=None))
    for _ in range(4):
        next(iterator)
    state = json.loads(json.dumps(dataset.state_dict()))
    assert state == dataset.state_dict(delivered=4)
    again = BatchDataset(running.address, RECIPE, patch=PATCH, batch_size=4, steps=9)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert_steps(toy, again, range(4, 9))


@pytest.mark.slow
def test_state_resumes_with_workers(toy, server_process):
    dataset = BatchDataset(server_process.address, RECIPE, patch=PATCH, batch_size=4, steps=9)
    assert dataset.state_dict()["step"] == 0
    dataset.load_state_dict(dataset.state_dict(delivered=3))
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn", timeout=60)
    assert_steps(toy, loader, range(3, 9))
    with pytest.raises(augclient.errors.StateError, match="delivered="):  # not the step that was loaded
        dataset.state_dict()
    assert dataset.state_dict(delivered=6)["step"] == 9


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_more_workers_than_steps_is_no_error(toy, server_process):
    dataset = BatchDataset(server_process.address, RECIPE, patch=PATCH, batch_size=4, steps=2)
    loader = DataLoader(dataset, batch_size=None, num_workers=3, multiprocessing_context="spawn", timeout=60)
    for epoch in range(2):
        assert_steps(toy, loader, range(2 * epoch, 2 * epoch + 2))


def test_dataset_without_labels_gives_images_alone(toy, running):
    running.servicer.labels = False
    dataset = BatchDataset(running.address, RECIPE, patch=PATCH, batch_size=2, steps=1, image_dtype="uint8")
    [image] = DataLoader(dataset, batch_size=None)
    np.testing.assert_array_equal(image[1].numpy(), toy.toy_image(1, PATCH, "uint8"))


@pytest.mark.parametrize(("hedge_s", "step_timeout_s", "doubled"), [(0.1, 60.0, True), (None, 0.3, False)])
def test_a_server_that_hangs_is_doubled_or_left_as_asked(toy, hung_fleet, hedge_s, step_timeout_s, doubled):
    addresses = [server.address for server in hung_fleet]
    dataset = BatchDataset(addresses, RECIPE, patch=PATCH, batch_size=4, steps=8, hedge_s=hedge_s, step_timeout_s=step_timeout_s)
    assert_steps(toy, dataset, range(8))
    assert any(request.share.instead_of for each in hung_fleet for request in each.servicer.requests) == doubled


def test_errors_keep_their_class(running):
    dataset = BatchDataset(running.address, RECIPE, patch=PATCH, batch_size=0)
    with pytest.raises(augclient.errors.RequestError, match="batch_size: got 0"):
        next(iter(dataset))
