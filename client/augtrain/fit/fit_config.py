"""What a training run is told: from a TOML file, from the command line, or from code. Nothing is asked of a server here.

steps = 600                       out = "runs/torsos"          server = "127.0.0.1:50051"
network = "unet3d"                or a table [network]: name, and what its builder takes
loss = "dice+cross_entropy"       or a table [loss], see augtrain.losses.parse_loss
recipe = "recipe.toml"            or tables [recipe.affine], ...; a path is relative to the TOML file
[batches] [optimizer] [learning_rate] [augmentation] [validation] [checkpoints]      see augtrain.fit.sections
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from augclient import Recipe
from augclient.errors import ConfigError, NotFoundError

from augtrain.fit.sections import (
    AugmentationConfig,
    BatchConfig,
    CheckpointConfig,
    OptimizerConfig,
    RateConfig,
    ValidationConfig,
    require,
)
from augtrain.fit.toml_table import check_keys, read_table, read_value


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """A whole run.

    Attributes:
        server: address, or several of one fleet.
        token_file: file with the server's token. tls_ca: PEM file of the server's authority; "system": the system's. None: without.
        out: the run's folder.
        recipe: with a window, which brings the image to [0, 1].
        network: name of augtrain.models; network_options: what its builder takes besides classes and channels.
        loss: text or table for augtrain.losses.parse_loss.
        steps: batches to train on, counted from the run's first one.
        seed: of the batches, of the first weights, and of dropout.
        tensorboard: whether event files are written.
    """

    server: tuple[str, ...]
    out: Path
    recipe: Recipe
    batches: BatchConfig
    network: str = "unet3d"
    network_options: Mapping[str, Any] = field(default_factory=dict)
    loss: str | Mapping[str, Any] = "iou"
    steps: int = 1000
    seed: int = 0
    token_file: str | None = None
    tls_ca: str | None = None
    tensorboard: bool = True
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learning_rate: RateConfig = field(default_factory=RateConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(0 <= self.seed < 1 << 32, "seed", self.seed, "0 to 2**32 - 1")
        if "window" not in self.recipe.to_dict():
            raise ConfigError(
                "recipe: has no [window], so the network would see the scanner's numbers; allowed: one that brings them to [0, 1], such as "
                "low = -350, high = 300 for soft tissue in HU"
            )

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> FitConfig:
        """Read a TOML file.

        Args:
            overrides: "key" or "table.key" -> value, instead of the file's.
        Raises:
            NotFoundError: there is no such file. ConfigError, RecipeError, PatchError: it is no config; the message begins with the path.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError(f"config file {str(path)!r} does not exist") from None
        except OSError as error:
            raise ConfigError(f"config file {str(path)!r} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"config file {str(path)!r} is not TOML: {error}") from error
        return cls.from_table(table, overrides, folder=path.parent)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> FitConfig:
        """The config of the table that a TOML file holds.

        Args:
            overrides: as for load().
            folder: where relative paths begin that the file names for reading; None: the working directory.
        Raises:
            ConfigError: a key is unknown (names the nearest) or missing, or a value not allowed. RecipeError: of the recipe.
        """
        folder = folder or Path()
        table = _overlay(table, overrides or {})
        check_keys(table, [each.name for each in fields(cls) if each.name != "network_options"], "")
        for key in ("server", "out", "recipe"):
            require(key in table, key, None, "a value, in the TOML file or as an option")
        sections = {key: table.get(key, {}) for key in _SECTIONS}
        for key, section in sections.items():
            require(isinstance(section, Mapping), key, section, "a table of keys and values")
            check_keys(section, [each.name for each in fields(_SECTIONS[key])], key)
        require("patch" in sections["batches"], "batches.patch", None, "three whole numbers, in the TOML file or as an option")
        values: dict[str, Any] = {key: table[key] for key in table}
        values["server"] = _read_server(table["server"])
        values["out"] = Path(read_value(table["out"], str, "out"))
        values["recipe"] = _read_recipe(table["recipe"], folder)
        if "network" in table:
            values["network"], values["network_options"] = _read_network(table["network"])
        if "loss" in table and not isinstance(table["loss"], str | Mapping):
            raise ConfigError(f"loss: got {table['loss']!r}; allowed: a text in quotes, or a table")
        for key, kind in (("steps", int), ("seed", int), ("token_file", str), ("tls_ca", str), ("tensorboard", bool)):
            if key in table:
                values[key] = read_value(table[key], kind, key)
        values |= {key: read_table(kind, sections[key], key) for key, kind in _SECTIONS.items()}
        return cls(**values)

    def shared_settings(self, fingerprint: str, backend: str) -> dict[str, Any]:
        """What runs must have in common for their scores to be compared, whatever loss, seed and number of steps they have; JSON-able.

        Args:
            fingerprint: of the dataset.
            backend: of Keras; no two of them train the same network to the same scores.
        """
        tables = {key: asdict(getattr(self, key)) for key in _SECTIONS if key != "checkpoints"}
        tables["batches"]["transport"] = None  # every road brings the same bytes
        return {
            "dataset": fingerprint,
            "backend": backend,
            "network": self.network,
            "network_options": dict(self.network_options),
            "recipe": self.recipe.to_dict(),
            **tables,
        }


_SECTIONS: dict[str, type] = {
    "batches": BatchConfig,
    "optimizer": OptimizerConfig,
    "learning_rate": RateConfig,
    "augmentation": AugmentationConfig,
    "validation": ValidationConfig,
    "checkpoints": CheckpointConfig,
}


def _overlay(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The table with "key" or "table.key" of `overrides` set."""
    merged = dict(table)
    for key, value in overrides.items():
        section, _, leaf = key.rpartition(".")
        if not section:
            merged[leaf] = value
            continue
        inner = merged.get(section, {})
        if section == "network" and isinstance(inner, str):
            inner = {"name": inner}
        merged[section] = {**inner, leaf: value} if isinstance(inner, Mapping) else inner
    return merged


def _read_server(value: object) -> tuple[str, ...]:
    addresses = (value,) if isinstance(value, str) else value
    given: tuple[str, ...] = read_value(addresses, tuple[str, ...], "server")
    require(len(given) >= 1, "server", value, 'an address such as "127.0.0.1:50051", or a list of them')
    return given


def _read_recipe(value: object, folder: Path) -> Recipe:
    if isinstance(value, Recipe):
        return value
    if isinstance(value, Mapping):
        return Recipe.from_dict(value)
    return Recipe.load(folder / read_value(value, str, "recipe"))


def _read_network(value: object) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ConfigError(f"network: got {value!r}; allowed: a name, or a table with `name` and what the network's builder takes")
    return value["name"], {key: option for key, option in value.items() if key != "name"}
