"""A trained network on disk, and the card that says how to feed it."""

from augtrain.artifact.card import ModelCard
from augtrain.artifact.folder import load_model, read_card, save_model

__all__ = ["ModelCard", "load_model", "read_card", "save_model"]
