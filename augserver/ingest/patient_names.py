"""Tell whether a name of a file or folder contains an identifier of the patient. Strings alone: no file is read here.

An identifier of four letters or more counts wherever it stands in a name; a shorter one (Li, Wei, a single letter) only as a whole word,
because two letters stand in every name. Chinese, Japanese and Korean names are written without spaces, so that two of their characters
count anywhere, and one as a whole word. A name that is hidden without need costs a readable id, and nothing else.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson")
NUMBERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID")
DATES = ("PatientBirthDate",)

_ANYWHERE = 4
_ANYWHERE_CJK = 2
_CJK = "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_ALL_CJK = re.compile(f"[{_CJK}]+")
_WORD = re.compile(f"[{_CJK}]+|[^\\W\\d_{_CJK}]+")
_BETWEEN_WORDS = re.compile(r"[^\w]+|_+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # CTLi -> CT, Li
_NAME_COMPONENTS = 3  # family, given, middle; prefix (Mr) and suffix (II) follow and name nobody
# Short words of every imaging folder: a patient who is called so is not told by them.
_ORDINARY = frozenset(("ct", "mr", "mri", "pt", "pet", "us", "dx", "t1", "t2", "pd", "dwi", "img", "dcm", "vol", "seg", "raw", "id", "the"))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe"})
_PLAIN = str.maketrans({"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "þ": "th", "æ": "ae", "œ": "oe"})
_HIRAGANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}  # katakana -> hiragana


@dataclass(frozen=True, slots=True, repr=False)  # a log must not show them
class Identifiers:
    """Identifiers of patients, to be compared with names and never shown.

    Attributes:
        anywhere: letters and digits that count wherever they stand in a name.
        words: those that count as a whole word.
    """

    anywhere: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()

    def __or__(self, other: Identifiers) -> Identifiers:
        return Identifiers(self.anywhere | other.anywhere, self.words | other.words)

    def are_in(self, name: str) -> bool:
        """Whether a name of a file or folder contains one of them."""
        joined = [_joined(form) for form in _forms(name)]
        if any(identifier in form for form in joined for identifier in self.anywhere):
            return True
        return bool(self.words) and not self.words.isdisjoint(_words_of(name))


@functools.lru_cache(maxsize=1024)  # the slices of a series all say the same
def identifiers_of(names: tuple[str, ...], numbers: tuple[str, ...], dates: tuple[str, ...]) -> Identifiers:
    """The identifiers in the values of a header.

    Args:
        names: DICOM person names: components parted by ^, groups (alphabetic, ideographic, phonetic) by =; several values by a backslash.
        numbers: patient and accession numbers.
        dates: YYYYMMDD.
    """
    anywhere: set[str] = set()
    words: set[str] = set()
    for word in [*_from_names(names), *_from_numbers(numbers), *_from_dates(dates)]:
        for form in map(_joined, _forms(word)):
            if len(form) >= (_ANYWHERE_CJK if _ALL_CJK.fullmatch(form) else _ANYWHERE):
                anywhere.add(form)
            elif form and not form.isdecimal() and form not in _ORDINARY:
                words.add(form)
    return Identifiers(frozenset(anywhere), frozenset(words))


def _from_names(names: Iterable[str]) -> Iterator[str]:
    """Each part of a name, and the ways to write parts as one word: LiWei, WeiLi, LiW."""
    for group in (group for name in names for group in re.split(r"[\\=]", unicodedata.normalize("NFKC", name))):
        components = group.split("^")[:_NAME_COMPONENTS]
        yield from components
        words = [word for component in components for word in _BETWEEN_WORDS.split(component) if word]
        yield from words
        for first, second in permutations(words[:_NAME_COMPONENTS], 2):
            yield first + second
            yield first + second[0]
            yield first[0] + second
        yield "".join(words)


def _from_numbers(numbers: Iterable[str]) -> Iterator[str]:
    for number in (part for text in numbers for part in re.split(r"[\s\\^=,]+", text)):
        yield number
        if len(number.lstrip("0")) >= _ANYWHERE:
            yield number.lstrip("0")


def _from_dates(dates: Iterable[str]) -> Iterator[str]:
    for date in dates:
        match = re.fullmatch(r"(\d\d)(\d\d)[.]?(\d\d)[.]?(\d\d)", date.strip())
        if match and 1 <= int(match[3]) <= len(_MONTHS):
            century, year, month, day = match.groups()
            named = _MONTHS[int(month) - 1]
            yield from (century + year + month + day, day + month + century + year, month + day + century + year)
            yield from (day + named + century + year, century + year + named + day)


def _words_of(name: str) -> set[str]:
    """The words of a name: parted by what is no letter or digit, by a change between letters and digits or of script, by capitals."""
    found: set[str] = set()
    for text in (name, _HUMP.sub(" ", name)):
        for form in _forms(text):
            found.update(_WORD.findall(form), (word for word in _BETWEEN_WORDS.split(form) if word))
    return found


def _forms(text: str) -> set[str]:
    """The ways in which a text is written: without case and width, umlauts as they are, as two letters and as one."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).casefold()).translate(_HIRAGANA)
    bare = "".join(map(_without_marks, folded.translate(_PLAIN)))
    return {folded, folded.translate(_GERMAN), bare}


def _without_marks(letter: str) -> str:
    if _ALL_CJK.fullmatch(letter):
        return letter
    return "".join(part for part in unicodedata.normalize("NFD", letter) if not unicodedata.combining(part))


def _joined(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)
