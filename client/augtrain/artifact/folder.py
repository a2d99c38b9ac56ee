"""The folder of a trained network: its weights, and a card that says all that is needed to build it, feed it and read its answers.

    MODEL/
        card.json                            a ModelCard, the name of the file of weights and its sha256
        model-<begin of the sha256>.weights.h5

A save writes the weights beside those of before under their own name, and then puts the new card in the old one's place: after a kill at
any moment the folder holds the model of before or the new one, whole. No pickle and no code is stored: the network is built by its name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from augclient.errors import AugError, NotFoundError, StateError
from augclient.nearest import nearest

from augtrain.artifact.card import ModelCard, card_from_document
from augtrain.whole_file import place

FORMAT = 1
CARD = "card.json"

_SCRATCH = ".saving"  # what a killed save left in it is removed by the next one
_WEIGHTS = re.compile(r"model-[0-9a-f]{12}\.weights\.h5")


def save_model(folder: str | Path, model: Any, card: ModelCard) -> None:
    """Write a model, or replace the one of before. One writer at a time.

    Args:
        folder: made if absent, parents too.
        model: keras.Model that the card's network and options build.
        card: see ModelCard.
    Raises:
        StateError: the folder cannot be written.
    """
    folder = Path(folder)
    scratch = folder / _SCRATCH
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        fresh = scratch / "new.weights.h5"
        model.save_weights(fresh)
        digest = _sha256(fresh)
        weights = folder / f"model-{digest[:12]}.weights.h5"
        place(fresh, weights)
        document = dataclasses.asdict(card) | {"format": FORMAT, "weights": weights.name, "weights_sha256": digest}
        (scratch / CARD).write_text(json.dumps(document, indent=1, allow_nan=False))
        place(scratch / CARD, folder / CARD)
        scratch.rmdir()
        for old in folder.glob("model-*.weights.h5"):
            if old.name != weights.name and _WEIGHTS.fullmatch(old.name):
                old.unlink()
    except OSError as error:
        raise StateError(f"{folder}: the model cannot be saved ({error}); free space, or choose another folder") from error


def load_model(folder: str | Path, *, networks: Mapping[str, Callable[..., Any]] | None = None) -> tuple[Any, ModelCard]:
    """The network with its weights, and its card.

    Args:
        networks: name -> builder(classes, *, channels, **network_options), of networks of your own; None: those of augtrain.models.
    Returns:
        keras.Model and ModelCard.
    Raises:
        NotFoundError: there is no such folder. StateError: it holds no model, a damaged one, or one of a network that is not here.
    """
    card, weights = read_card(folder)
    if networks is None:
        from augtrain.models import NETWORKS

        networks = {name: network.build for name, network in NETWORKS.items()}
    if card.network not in networks:
        near = nearest(card.network, networks)
        guess = f"; the nearest is {near!r}" if near else f"; there are {', '.join(networks)}"
        raise StateError(f"{folder}: is a model of the network {card.network!r}, which augtrain does not have{guess}")
    try:
        model = networks[card.network](card.outputs, channels=card.channels, **card.network_options)
        model.load_weights(weights)
    except (AugError, KeyError, OSError, TypeError, ValueError) as error:
        raise StateError(
            f"{folder}: the weights do not fit the network {card.network!r} with options {card.network_options} ({_first_line(error)}); "
            "the card was changed, or another version saved the model: restore the folder, or train again"
        ) from error
    return model, card


def read_card(folder: str | Path) -> tuple[ModelCard, Path]:
    """The card and the file of weights, whose bytes are those that were saved.

    Raises:
        NotFoundError: there is no such folder. StateError: it holds no model, or a damaged one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; a model is a folder with {CARD}, as `augtrain fit` leaves it in RUN/model")
    document = _read_document(folder)
    try:
        card = card_from_document(document)
    except StateError as error:
        raise StateError(f"{folder}: {error}; restore {CARD} from a copy") from error
    name, digest = document.get("weights"), document.get("weights_sha256")
    if not isinstance(name, str) or not _WEIGHTS.fullmatch(name):
        raise StateError(f"{folder}: {CARD} names the weights {name!r}, which is no name that a save gives; restore it from a copy")
    weights = folder / name
    try:
        got = _sha256(weights)
    except OSError as error:
        raise StateError(f"{folder}: the weights {name} cannot be read ({error.strerror}); restore the folder from a copy") from error
    if got != digest:
        raise StateError(f"{folder}: the weights {name} are damaged (sha256 {got[:12]}, saved as {str(digest)[:12]}); restore them")
    return card, weights


def _read_document(folder: Path) -> dict[str, Any]:
    """The card as JSON has it."""
    try:
        document = json.loads((folder / CARD).read_bytes())
    except FileNotFoundError:
        nested = next((file.parent for file in sorted(folder.glob(f"*/{CARD}"))), None)
        guess = f"did you mean {nested}?" if nested else "`augtrain fit` leaves one in RUN/model"
        raise StateError(f"{folder}: holds no model, as it has no {CARD}; {guess}") from None
    except (OSError, ValueError) as error:
        raise StateError(f"{folder}: its {CARD} cannot be read ({_first_line(error)}); restore it from a copy") from error
    got = document.get("format") if isinstance(document, dict) else type(document).__name__
    if got != FORMAT:
        raise StateError(f"{folder}: {CARD} is of format {got!r}, this version reads {FORMAT}: it is another program's, or a newer one's")
    fields: dict[str, Any] = document
    return fields


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
