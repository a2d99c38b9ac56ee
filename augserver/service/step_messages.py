"""What steps did to a sample, as messages: provenance on its way out, explicit steps of Warp on their way in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from augclient.recipe import plain_values
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.augment.step_rules import AppliedStep, read_applied
from augserver.errors import RecipeError


def applied_message(step: AppliedStep) -> pb.AppliedStep:
    """One step of a sample's provenance."""
    message = pb.AppliedStep(op=step.op, fired=step.fired, channels=step.channels)
    message.values.update({name: _as_lists(value) for name, value in step.values.items()})
    return message


def applied_steps(messages: Iterable[pb.AppliedStep], channels: int) -> tuple[AppliedStep, ...]:
    """The explicit steps of a Warp item, checked.

    Raises:
        RecipeError: an unknown or spatial step, a value that is missing or not allowed, a channel that the volume lacks.
    """
    steps = []
    for number, message in enumerate(messages, 1):
        if any(channel >= channels for channel in message.channels):
            raise RecipeError(f"steps[{number}] ({message.op}): channels {list(message.channels)}; allowed: 0 to {channels - 1}")
        steps.append(
            read_applied(message.op, tuple(message.channels) or tuple(range(channels)), plain_values(message.values), number, channels)
        )
    return tuple(steps)


def _as_lists(value: Any) -> Any:
    return [_as_lists(one) for one in value] if isinstance(value, tuple) else value
