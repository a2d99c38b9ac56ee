"""The loop of a run.

    take batch s -> step s -> [augmentation begins?] -> [validate] -> [checkpoint] -> take batch s + 1 ...

What happens after step s follows from the config, the batches up to s and the weights alone. A checkpoint holds all of it, so a run that
goes on from one repeats what the undisturbed run does: the same batches to the byte, the same losses up to the rounding of the backend.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from augclient import Recipe
from augclient.errors import AugError, DivergedError

from augtrain.fit.checkpoint import Checkpoint, read_last, write_checkpoint
from augtrain.fit.event_file import EventFile
from augtrain.fit.feed import BatchFeed, TrainingBatch
from augtrain.fit.fit_config import FitConfig
from augtrain.fit.history import History
from augtrain.fit.learner import Learner
from augtrain.fit.run_progress import RunProgress
from augtrain.fit.schedule import Augmentation, LearningRate
from augtrain.fit.stop_request import StopRequest, StopRequested
from augtrain.fit.validation import Validator


class Training:
    """Where a run stands, and what carries it on.

    Args:
        out: the run's folder.
        volumes: ids to validate with; may be none.
        save: writes the network as a model that has seen so many batches.

    Attributes:
        step: batches trained on.
    """

    def __init__(
        self,
        config: FitConfig,
        out: Path,
        learner: Learner,
        feed: BatchFeed,
        validator: Validator,
        volumes: tuple[str, ...],
        stop: StopRequest,
        save: Callable[[int], None],
        progress: RunProgress,
    ) -> None:
        self.step = 0
        self.history = History()
        self.augmentation = Augmentation(config.augmentation)
        self._rate = LearningRate(config.optimizer.learning_rate, config.learning_rate)
        self._config = config
        self._out = out
        self._learner = learner
        self._feed = feed
        self._validator = validator
        self._volumes = volumes
        self._stop = stop
        self._save = save
        self._progress = progress
        self._plain = config.recipe.without_augmentation()
        self._checkpoints = out / "checkpoints"
        self._written: tuple[int, int] | None = None  # its step and validations
        self._ahead: TrainingBatch | None = None

    def prepare(self) -> None:
        """Go back to the last checkpoint, if there is one, and make sure of all that can be made sure of before a step.

        Raises:
            StateError: the checkpoint is damaged, or of another run. What the server and the loss refuse: see fit().
        """
        checkpoint = read_last(self._checkpoints)
        if checkpoint is not None:
            self._restore(checkpoint)
            self._progress.note(f"going on at step {self.step} from the checkpoint in {self._out}")
        else:
            self._feed.open(self._recipe(), 0)
        if self.step < self._config.steps:
            self._ahead = self._feed.take()
            self._learner.check(self._ahead.image, self._ahead.label)
        if self._volumes and not self.step:
            self._validator.check(self._volumes)

    def run(self, events: EventFile | None, on_step: Callable[[int, float], None]) -> bool:
        """Train to the last step, or until a stop is wished for; whether the last step was reached.

        Raises:
            DivergedError: the loss or the weights are not finite, with the last good checkpoint kept. AugError: what the server answers, or
                that it stayed away, with a checkpoint of where the run stands.
        """
        steps = self._config.steps
        try:
            with self._progress.shown(self.step, steps):
                while True:
                    self._validate_if_due(events)
                    if self.step >= steps:
                        break
                    self._train_step(events, on_step)
                    if self.step % self._config.checkpoints.every == 0:
                        self._write()
                    self._stop.check()
        except StopRequested:
            self._write()
            if not self._volumes:
                self._save(self.step)
            return False
        self._write()
        if not self._volumes:
            self._save(self.step)
        return True

    def _train_step(self, events: EventFile | None, on_step: Callable[[int, float], None]) -> None:
        begin = time.perf_counter()
        batch = self._take()
        rate = self._rate.at(self.step)
        loss = self._learner.step(batch.image, batch.label, rate)
        step_s = time.perf_counter() - begin
        if not math.isfinite(loss):
            raise self._diverged(f"the loss of step {self.step} is {loss}")
        self.history.add(loss=loss, learning_rate=rate, step_s=step_s, wait_s=batch.wait_s, first=batch.first)
        on_step(self.step, loss)
        self.step += 1
        if events is not None:
            shares = None if batch.first else batch.wait_s / step_s
            events.add(
                self.step,
                {"training/loss": loss, "learning_rate": rate, "time/step_ms": 1e3 * step_s, "time/share_waiting_for_data": shares},
            )
            events.flush()
        self._progress.step(self.step, loss, self.history.wait_share(last=100))
        self._observe_training()

    def _take(self) -> TrainingBatch:
        if self._ahead is not None:
            batch, self._ahead = self._ahead, None
            return batch
        try:
            with self._stop.breakable():
                return self._feed.take()
        except AugError as error:
            raise self._kept(error) from error

    def _observe_training(self) -> None:
        """Let the rate and the augmentation follow from the loss of the steps so far."""
        if self.step % self._config.learning_rate.window == 0:
            self._rate.observe("training", self.history.mean_loss(self._config.learning_rate.window))
        window = self._config.augmentation.window
        if self.augmentation.start is None and self.step % window == 0:
            self.augmentation.observe(self.step, self.history.mean_loss(window))
        if self._recipe() != self._feed.recipe:
            self._progress.note(f"step {self.step}: augmentation begins")
            self._rate.begin_augmentation()
            self._feed.open(self._recipe(), self.step)
            self._write()

    def _validate_if_due(self, events: EventFile | None) -> None:
        every, done = self._config.validation.every, [each.step for each in self.history.validations]
        due = self.step == self._config.steps or (every and self.step and self.step % every == 0)
        if not self._volumes or not due or self.step in done:
            return
        try:
            with self._stop.breakable():
                found = self._validator.measure(self._learner, self._volumes, self.step, self._progress.validating)
        except AugError as error:
            raise self._kept(error) from error
        self.history.validations.append(found)
        self._rate.observe("validation", found.loss)
        if self.history.best() is found:
            self._save(self.step)
        self._progress.validated(found)
        if events is not None:
            dice = {f"validation/dice/{name}": value for name, value in found.dice.items()}
            events.add(self.step, {"validation/loss": found.loss, "validation/mean_dice": found.mean_dice, **dice})
        self._write()

    def _recipe(self) -> Recipe:
        """Of the next step."""
        start = self.augmentation.start
        return self._plain if start is None or self.step < start else self._config.recipe

    def _write(self) -> None:
        """Write a checkpoint of now, unless it is the last one written."""
        number = self.step, len(self.history.validations)
        if self._written == number:
            return
        arrays = {**self._learner.arrays(), **self.history.arrays()}
        if not all(np.isfinite(array).all() for name, array in arrays.items()):
            raise self._diverged(f"after step {self.step - 1} weights are not finite")
        document: dict[str, Any] = {
            "stream": self._feed.state(self.step),
            "augmentation": self.augmentation.state(),
            "learning_rate": self._rate.state(),
            "validations": self.history.document(),
        }
        write_checkpoint(self._checkpoints, Checkpoint(self.step, arrays, document), keep=self._config.checkpoints.keep)
        self.history.write_csv(self._out)
        self._written = number

    def _restore(self, checkpoint: Checkpoint) -> None:
        document = checkpoint.document
        self.step = checkpoint.step
        self._learner.restore(checkpoint.arrays)
        self.history.restore(checkpoint.arrays, document["validations"])
        self.augmentation.restore(document["augmentation"])
        self._rate.restore(document["learning_rate"])
        self._feed.open(self._recipe(), min(self.step, self._config.steps), document["stream"])
        self._written = self.step, len(self.history.validations)

    def _kept(self, error: AugError) -> AugError:
        """The error that ends the run for now, after a checkpoint of where it stands."""
        self._write()
        return type(error)(f"{error}; the run is kept at step {self.step}, and the same command goes on")

    def _diverged(self, what: str) -> DivergedError:
        kept = "none was written yet" if self._written is None else f"the checkpoint of step {self._written[0]} is kept"
        return DivergedError(
            f"{what}: the training diverged; {kept}. The same command would come to the same end: lower optimizer.learning_rate, set "
            "optimizer.clip_norm, or take another loss"
        )
