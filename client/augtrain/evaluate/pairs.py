"""Which prediction belongs to which truth: two files, or two folders matched by file name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from augclient.errors import ConfigError, NotFoundError

from augtrain.label_map import SUFFIXES

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Case:
    """One volume: its name and the files of its two label maps."""

    name: str
    prediction: Path
    truth: Path


def find_cases(predictions: Path, truth: Path, *, only_predicted: bool = False) -> list[Case]:
    """Pair the files, sorted by name.

    Args:
        predictions: a file or a folder; a folder is not searched below its own files.
        truth: of the same kind. In folders, `case.nii` and `case.nii.gz` have the same name.
        only_predicted: leave out truths without a prediction, which are an error otherwise: a mean over the cases that a
            network happened to finish flatters it.
    Raises:
        NotFoundError: a path does not exist, a folder has no label map, or a file has no partner.
        ConfigError: a file against a folder, a file against itself, or two files of one name.
    """
    for role, path in (("predictions", predictions), ("truth", truth)):
        if not path.exists():
            raise NotFoundError(f"{role}: there is nothing at {path}; check the path")
    if predictions.is_dir() != truth.is_dir():
        kinds = " and ".join(f"{path} is a {'folder' if path.is_dir() else 'file'}" for path in (predictions, truth))
        raise ConfigError(f"{kinds}; give two files, or two folders with files of equal names")
    if predictions.samefile(truth):
        raise ConfigError(f"{predictions} is given as prediction and as truth; it would score itself perfectly")
    if not predictions.is_dir():
        return [Case(_name(predictions), predictions, truth)]
    predicted, true = _label_maps(predictions), _label_maps(truth)
    _check_partners(predicted, true, truth, "prediction", "truth", "")
    if not only_predicted:
        _check_partners(true, predicted, predictions, "truth", "prediction", ", or score only what is predicted with --only-predicted")
    return [Case(name, path, true[name]) for name, path in sorted(predicted.items())]


def _label_maps(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith("."):
            other = found.setdefault(_name(path), path)
            if other != path:
                raise ConfigError(f"{folder} has both {other.name} and {path.name}, which are one name; leave one of them")
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise NotFoundError(f"{folder} has no label map ({kinds}); convert other formats, and name the folder that has the files itself")
    return found


def _check_partners(some: dict[str, Path], others: dict[str, Path], other_folder: Path, role: str, other_role: str, way_out: str) -> None:
    alone = sorted(some.keys() - others.keys())
    if alone:
        names = ", ".join(some[name].name for name in alone[:_SHOWN]) + (", ..." if len(alone) > _SHOWN else "")
        raise NotFoundError(
            f"{len(alone)} of {len(some)} {role} files have no {other_role} of the same name in {other_folder}: {names}; "
            f"it has {', '.join(sorted(path.name for path in others.values())[:_SHOWN])}{', ...' if len(others) > _SHOWN else ''}; "
            f"rename or add files, or move these away{way_out}"
        )


def _name(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]
