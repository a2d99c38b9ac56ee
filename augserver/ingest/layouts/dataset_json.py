"""dataset.json of the Medical Segmentation Decathlon and of nnU-Net: class names, channels, modality."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augserver.errors import ConfigError
from augserver.ingest.readers.formats import split_suffix

NAME = "dataset.json"
_MR = re.compile(r"(?<![a-z])(mri?|t1|t2|flair|adc|dwi|pd|bold|swi|asl|dixon)(?![a-z])|^t[12]|mri\b|cine|magnetic", re.IGNORECASE)
_CT = re.compile(r"(?<![a-z])(cb)?ct(?![a-z])|tomography", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DatasetJson:
    """What the file says; empty where it says nothing."""

    content: dict[str, Any]

    @classmethod
    def read(cls, root: Path) -> DatasetJson:
        """The file in a folder; an empty one if it is absent or no JSON, which `classes` then says."""
        try:
            content = json.loads((root / NAME).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            content = {}
        return cls(content if isinstance(content, dict) else {})

    def classes(self) -> dict[int, str]:
        """Class names: id -> name in the Decathlon and the older nnU-Net, name -> id in the newer one.

        Raises:
            ConfigError: the file cannot be read, or regions overlap (a name with several ids).
        """
        try:
            pairs = [_pair(key, value) for key, value in self.content["labels"].items()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{NAME}: its 'labels' cannot be read ({error!r}); wanted is id -> name or name -> id; or name each id by --classes FILE"
            ) from error
        return {key: name for key, name in pairs if 0 <= key <= 255}

    @property
    def label_stems(self) -> dict[str, str]:
        """Stem of a scan -> stem of its label, where the list "training" names both."""
        listed = self.content.get("training")
        pairs = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        named = [(each.get("image"), each.get("label")) for each in pairs]
        return {_stem(image): _stem(label) for image, label in named if isinstance(image, str) and isinstance(label, str)}

    @property
    def channels(self) -> list[str]:
        """The names of the channels, in the order of their numbers."""
        named = self.content.get("channel_names", self.content.get("modality", {}))
        if isinstance(named, str):
            return [named]
        return [str(each) for each in (named.values() if isinstance(named, dict) else named if isinstance(named, list) else ())]

    @property
    def has_channel_names(self) -> bool:
        """Whether it is of the newer nnU-Net, where each channel is a file."""
        return "channel_names" in self.content

    @property
    def modality(self) -> tuple[str, str]:
        """ "ct" or "mr" and the words that say so; "" if they say neither, or both."""
        words = ", ".join(self.channels)
        mr, ct = _MR.search(words) is not None, _CT.search(words) is not None
        return ("" if mr == ct else "mr" if mr else "ct"), words


def _stem(text: str) -> str:
    return split_suffix(Path(text.replace("\\", "/")))[0]


def _pair(key: str, value: Any) -> tuple[int, str]:
    if isinstance(value, int):
        return value, key
    if isinstance(value, list):
        raise ValueError(f"{key} is the region {value}: overlapping regions are not taken")
    return int(key), str(value)
