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


def find_cases(predictions: Path, truth: Path, *, only_predicted: bool = False) -> tuple[list[Case], dict[str, str]]:
    """Pair the files.

    Args:
        predictions: a file or a folder; a folder is not searched below its own files.
        truth: of the same kind. In folders, `case.nii` and `case.nii.gz` have the same name.
        only_predicted: leave out truths without a prediction, which are refused cases otherwise: a mean over the cases that a
            network happened to finish flatters it.
    Returns:
        The pairs, sorted by name; and the names of files without a partner -> that, in a sentence.
    Raises:
        NotFoundError: a path does not exist, a folder has no label map, or no file has a partner.
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
        return [Case(_name(predictions), predictions, truth)], {}
    predicted, true = _label_maps(predictions), _label_maps(truth)
    if not predicted.keys() & true.keys():
        raise NotFoundError(
            f"no file in {predictions} has the name of one in {truth}: {_shown(predicted)} against {_shown(true)}; "
            "rename them: a prediction has the name of its truth"
        )
    alone = {name: f"{predicted[name].name} has no truth of the same name in {truth}" for name in predicted.keys() - true.keys()}
    if not only_predicted:
        for name in true.keys() - predicted.keys():
            alone[name] = f"{true[name].name} has no prediction in {predictions}; --only-predicted leaves such out"
    return [Case(name, path, true[name]) for name, path in sorted(predicted.items()) if name in true], alone


def _label_maps(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise NotFoundError(f"{folder} cannot be read ({error.strerror}); allow this user to list it") from error
    for path in paths:
        if path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith("."):
            other = found.setdefault(_name(path), path)
            if other != path:
                raise ConfigError(f"{folder} has both {other.name} and {path.name}, which are one name; leave one of them")
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise NotFoundError(f"{folder} has no label map ({kinds}); convert other formats, and name the folder that has the files itself")
    return found


def _shown(files: dict[str, Path]) -> str:
    return ", ".join(sorted(path.name for path in files.values())[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")


def _name(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]
