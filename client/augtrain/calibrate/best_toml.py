"""The best weights as a config that `augtrain fit` takes as it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from augtrain.calibrate.candidates import CalibrateConfig, Weights
from augtrain.fit import FitConfig
from augtrain.whole_file import write_text

FILE = "best.toml"


def write_best(folder: Path, config: CalibrateConfig, best: Weights) -> Path:
    """Write best.toml, whole or not at all: the template with the best weights and `best` of the same folder as the run's folder."""
    run = dataclasses.replace(config.template, loss=config.loss_of(best), out=folder / "best")
    heading = f"# Weights chosen by `augtrain calibrate`: false positives {best.fp:g}, false negatives {best.fn:g}.\n"
    path = folder / FILE
    write_text(path, heading + make_toml(run))
    return path


def make_toml(config: FitConfig) -> str:
    """A config as TOML; FitConfig.load() reads an equal one."""
    table = dataclasses.asdict(config)
    table |= {"server": list(config.server), "out": str(config.out), "recipe": config.recipe.to_dict()}
    table["network"] = {"name": config.network, **table.pop("network_options")}
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping) and key != "recipe"}
    tables |= {f"recipe.{key}": value for key, value in table["recipe"].items()}
    blocks = [_lines(values)] + [f"[{name}]\n{_lines(content)}" for name, content in tables.items()]
    return "\n".join(blocks)


def _lines(table: Mapping[str, Any]) -> str:
    """Keys without a value are left out: TOML has no null."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # JSON writes texts, numbers and truth values as TOML does
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
