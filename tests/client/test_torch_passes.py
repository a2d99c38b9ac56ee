"""Epochs as people write them in PyTorch: with DataLoader workers, StatefulDataLoader, Accelerate and Lightning, and across restarts."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import augclient
import pytest

torch = pytest.importorskip("torch")
from augclient.torch import BatchDataset  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

PATCH = (3, 5, 7)
RECIPE = augclient.Recipe()

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*use of fork", "ignore:.*set_vital", "ignore:.*(LeafSpec|many workers|persistent_workers|`__len__` defined)"
    ),
    pytest.mark.timeout(180),
]
CONTEXTS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def make(server_process: Any) -> Any:
    """A dataset with passes of 8 batches."""
    return lambda **how: BatchDataset(server_process.address, RECIPE, **{"patch": PATCH, "batch_size": 4, "steps": 8} | how)


def step_of(batch: Any) -> int:
    """The number of a batch, by its first voxel: index * 7 % 251, as toy_server says; below 62."""
    first = int(batch[0].flatten()[0])
    return next(step for step in range(62) if step * 4 * 7 % 251 == first)


def steps_of(batches: Any) -> list[int]:
    return [step_of(batch) for batch in batches]


def loader_of(dataset: Any, workers: int = 0, **how: Any) -> Any:
    return DataLoader(dataset, batch_size=None, num_workers=workers, **({"timeout": 60} | how if workers else {}))


def break_off(loader: Any, capfd: Any) -> tuple[int, str]:
    """The first batch of a pass that then ends, and what was written to stderr meanwhile.

    PyTorch lets a worker's interpreter end while the thread that feeds its queue is still inside THPStorage_shareFd, and when that thread
    then asks for the GIL it aborts the process (seen in a core dump of torch 2.13). Nothing is lost by it, and it is not ours to mend.
    """
    iterator = iter(loader)
    step = step_of(next(iterator))
    ended = ""
    try:
        iterator._shutdown_workers()
    except RuntimeError as error:
        ended = str(error)
    del iterator
    said: str = capfd.readouterr().err
    if ended:
        assert "is killed by signal: Aborted" in ended
        assert "terminate called without an active exception" in said
    return step, said


def test_passes_go_on_or_are_the_same(make: Any) -> None:
    for passes, wanted in (("continue", [range(8), range(8, 16), range(16, 24)]), ("same", [range(8)] * 3)):
        loader = loader_of(make(passes=passes))
        assert len(loader) == 8
        assert [steps_of(loader) for _ in range(3)] == [list(steps) for steps in wanted]
    with pytest.raises(augclient.errors.RequestError, match="passes: got 'again'; allowed: continue, same"):
        make(passes="again")


def test_an_endless_pass_and_one_broken_off_go_on_with_the_very_next_batch(make: Any) -> None:
    for steps in (None, 8):
        dataset = make(steps=steps)
        loader, got = loader_of(dataset), []
        for _ in range(3):
            for batch in loader:
                got.append(step_of(batch))
                if len(got) % 5 == 0:
                    break
        assert got == list(range(15))
        assert dataset.state_dict()["step"] == 15
    assert steps_of(loader) == list(range(15, 23))
    with pytest.raises(TypeError, match="endless"):
        len(make(steps=None))


def test_state_before_between_and_after_passes(make: Any) -> None:
    dataset, got = make(start=3), []
    for number in range(3):
        assert dataset.state_dict()["step"] == 3 + 8 * number
        for k, batch in enumerate(loader_of(dataset)):
            got.append(step_of(batch))
            token = json.loads(json.dumps(dataset.state_dict()))
            assert token == dataset.state_dict(delivered=k + 1)
            assert token["step"] == 4 + 8 * number + k
    assert got == list(range(3, 27))
    assert dataset.state_dict()["step"] == 27
    with pytest.raises(augclient.errors.RequestError, match="delivered: got 9; allowed: 0 to 8"):
        dataset.state_dict(delivered=9)


@pytest.mark.parametrize("passes", ["continue", "same"])
@pytest.mark.parametrize("delivered", [0, 1, 5, 8])
def test_a_resumed_pass_has_its_rest_and_the_next_ones_are_whole(make: Any, passes: str, delivered: int) -> None:
    before = make(passes=passes)
    iterator = iter(before)
    got = [step_of(next(iterator)) for _ in range(delivered)]
    token = json.loads(json.dumps(before.state_dict()))
    for after in (make(passes=passes, state=token), make(passes=passes)):
        after.load_state_dict(token)
        assert after.state_dict() == token
        assert after.state_dict(delivered=0)["step"] == (0 if passes == "same" and delivered == 8 else delivered)
        rest = steps_of(after)
        whole = [*got, *rest] if delivered < 8 else rest
        assert whole == (list(range(8, 16)) if passes == "continue" and delivered == 8 else list(range(8)))
        assert steps_of(after) == (list(range(whole[-1] + 1, whole[-1] + 9)) if passes == "continue" else list(range(8)))


def test_a_token_of_a_plain_stream_ends_its_pass_at_a_multiple_of_steps(make: Any, server_process: Any) -> None:
    with augclient.connect(server_process.address) as server:
        token = server.stream(RECIPE, patch=PATCH, batch_size=4, start=11).state_dict()
    dataset = make(state=token)
    assert [steps_of(dataset), steps_of(dataset)] == [list(range(11, 16)), list(range(16, 24))]
    foreign = make(state={**token, "seed": 1})
    for _ in range(2):
        with pytest.raises(augclient.errors.StateError, match="seed"):
            iter(foreign)


def test_set_epoch_jumps_and_changes_nothing_where_the_pass_comes_anyway(make: Any) -> None:
    dataset = make()
    for epoch in (0, 1, 2, 5, 6, 2, 2):
        dataset.set_epoch(epoch)
        assert steps_of(dataset) == list(range(8 * epoch, 8 * epoch + 8))
    next(iter(dataset))  # broken off
    for first in (25, 26):
        dataset.set_epoch(3)  # as Accelerate does, which counts passes that came to their end
        assert step_of(next(iter(dataset))) == first
    resumed = make(state=dataset.state_dict())
    resumed.set_epoch(0)
    assert [steps_of(resumed), steps_of(resumed)] == [list(range(27, 34)), list(range(34, 42))]
    resumed.set_epoch(2)
    assert step_of(next(iter(resumed))) == 42
    same = make(passes="same")
    for epoch in (3, 3, 1):
        same.set_epoch(epoch)
        assert [steps_of(same), steps_of(same)] == [list(range(8 * epoch, 8 * epoch + 8))] * 2
    endless = make(steps=None)
    endless.set_epoch(4)
    assert step_of(next(iter(endless))) == 0


def test_two_passes_at_once_never_give_a_batch_twice(make: Any) -> None:
    dataset = make()
    older, newer = iter(dataset), iter(dataset)
    assert [step_of(next(newer)), step_of(next(newer))] == [0, 1]
    with pytest.raises(augclient.errors.StateError, match="another pass over this dataset has begun"):
        next(older)
    assert step_of(next(newer)) == 2
    same = make(passes="same")
    assert [(step_of(a), step_of(b)) for a, b in zip(same, same, strict=True)] == [(k, k) for k in range(8)]


def test_copies_have_passes_of_their_own(make: Any) -> None:
    dataset = make()
    assert steps_of(dataset) == list(range(8))
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert steps_of(other) == list(range(8, 16))
    assert steps_of(dataset) == list(range(8, 16))


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("context", CONTEXTS)
def test_workers_go_on_and_resume(make: Any, context: str, persistent: bool, capfd: Any) -> None:
    dataset = make()
    loader = loader_of(dataset, 2, persistent_workers=persistent, multiprocessing_context=context)
    for epoch in range(2):
        torch.manual_seed(0)  # the same seed for the workers of every pass
        assert steps_of(loader) == list(range(8 * epoch, 8 * epoch + 8))
    assert dataset.state_dict(delivered=8)["step"] == 16
    with pytest.raises(augclient.errors.StateError, match="delivered="):
        dataset.state_dict()
    iterator = iter(loader)
    assert [step_of(next(iterator)) for _ in range(5)] == list(range(16, 21))
    dataset.load_state_dict(json.loads(json.dumps(dataset.state_dict(delivered=5))))
    if not persistent:
        del iterator
    assert [steps_of(loader), steps_of(loader)] == [[21, 22, 23], list(range(24, 32))]
    dataset.set_epoch(1)
    assert steps_of(loader) == list(range(8, 16))
    if persistent:
        next(iter(loader))
    else:
        break_off(loader, capfd)  # nobody knows what the workers had made
    assert steps_of(loader) == list(range(24, 32))


@pytest.mark.slow
def test_a_pass_of_workers_that_was_broken_off_is_told(make: Any, capfd: Any) -> None:
    for steps, words in ((8, "begins behind its last batch, at 8"), (None, "begins behind what they had made, at")):
        dataset = make(steps=steps)
        loader = loader_of(dataset, 2, multiprocessing_context="spawn")  # whose workers log to stderr
        assert break_off(loader, capfd)[0] == 0
        later, said = break_off(loader, capfd)
        assert later == 8 if steps else 0 < later < 12
        assert words in said


@pytest.mark.slow
@pytest.mark.parametrize("delivered", [0, 1, 5, 8, 11])
@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_data_loader_resumes_at_the_very_next_batch(make: Any, workers: int, delivered: int) -> None:
    StatefulDataLoader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    how = {"batch_size": None, "num_workers": workers}

    def run(loader: Any, count: int) -> list[int]:
        """This many batches over as many passes as it takes; stops in the middle of one."""
        got: list[int] = []
        while len(got) < count:
            for batch in loader:
                got.append(step_of(batch))
                if len(got) == count:
                    break
        return got

    loader = StatefulDataLoader(make(), **how)
    got = run(loader, delivered)
    state = copy.deepcopy(loader.state_dict())
    resumed = StatefulDataLoader(make(), **how)
    resumed.load_state_dict(state)
    rest = steps_of(resumed)
    assert got + rest == list(range(16 if delivered > 8 else 8)) or (delivered == 8 and rest in ([], list(range(8, 16))))
    following = 16 if delivered > 8 or rest == list(range(8, 16)) else 8
    assert steps_of(resumed) == list(range(following, following + 8))


@pytest.mark.slow
@pytest.mark.parametrize(("stateful", "workers"), [(False, 0), (False, 2), (True, 0), (True, 2)])
def test_accelerate_goes_on_and_resumes(make: Any, stateful: bool, workers: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    from accelerate.utils import DataLoaderConfiguration

    config = DataLoaderConfiguration(use_stateful_dataloader=stateful)

    def prepare(dataset: Any) -> Any:
        return accelerate.Accelerator(cpu=True, dataloader_config=config).prepare(loader_of(dataset, workers))

    dataset = make()
    loader = prepare(dataset)
    assert [steps_of(loader) for _ in range(2)] == [list(range(8)), list(range(8, 16))]
    got = []
    for batch in loader:
        got.append(step_of(batch))
        if len(got) == 5:
            state = copy.deepcopy(loader.state_dict() if stateful else dataset.state_dict(delivered=5))  # it fetches one batch ahead
            break
    assert got == list(range(16, 21))
    fresh = make()
    resumed = prepare(fresh)
    (resumed if stateful else fresh).load_state_dict(state)
    assert [steps_of(resumed) for _ in range(2)] == [[21, 22, 23], list(range(24, 32))]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_in_the_middle_of_an_epoch(make: Any, tmp_path: Any, workers: int, limit: int | None) -> None:
    lightning = pytest.importorskip("lightning")
    StatefulDataLoader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    path = tmp_path / "state.ckpt"

    class Seen(lightning.LightningModule):
        def __init__(self, save_at: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.train_steps: list[int] = []
            self.validation_steps: list[int] = []
            self.save_at = save_at

        def training_step(self, batch: Any, index: int) -> Any:
            self.train_steps.append(step_of(batch))
            return self.weight * 1.0

        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step == self.save_at:
                self.trainer.save_checkpoint(path)

        def validation_step(self, batch: Any, index: int) -> None:
            self.validation_steps.append(step_of(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(model: Any, resume: Any, epochs: int) -> None:
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_train_batches=limit,
        )
        validation = loader_of(make(passes="same", steps=3, start=50))
        train = StatefulDataLoader(make(), batch_size=None, num_workers=workers)
        trainer.fit(model, train, validation, ckpt_path=resume, weights_only=False)

    epoch = limit or 8
    model = Seen(epoch + 3)
    fit(model, None, 2)
    assert model.validation_steps == [50, 51, *[50, 51, 52] * 2]  # the sanity check, then every epoch
    if limit is None:
        assert model.train_steps == list(range(16))
    resumed = Seen(-1)
    fit(resumed, path, 3)
    before = model.train_steps[: epoch + 3]
    assert resumed.train_steps[0] == before[-1] + 1
    assert resumed.validation_steps[-6:] == [50, 51, 52] * 2
    if limit is None:
        assert resumed.train_steps == list(range(11, 24))
    else:
        assert len(set(before + resumed.train_steps)) == len(before + resumed.train_steps)
