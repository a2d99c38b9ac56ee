"""Class names in the headers of label NIfTI files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from augclient.errors import VolumeError
from augtrain.label_map import class_names_extension, class_names_of, open_label_file

CLASSES = {0: "background", 1: "liver", 7: "<Niere> & Ærø"}


def image_with(*extensions) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    image.header.extensions.extend(extensions)
    return image


def caret(text: bytes, code: int = 30) -> nibabel.nifti1.Nifti1Extension:
    return nibabel.nifti1.Nifti1Extension(code, text)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_survive_a_file(tmp_path: Path, kind: type, suffix: str) -> None:
    image = kind(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    image.header.extensions.append(class_names_extension(CLASSES))
    nibabel.save(image, tmp_path / f"case{suffix}")
    assert open_label_file(tmp_path / f"case{suffix}").classes == CLASSES
    assert nibabel.load(tmp_path / f"case{suffix}").header.extensions[0].get_code() == 30  # NIFTI_ECODE_CARET


def test_names_of_total_segmentator_are_read(shared_data: Path) -> None:
    classes = open_label_file(shared_data / "totalseg" / "example_seg.nii.gz").classes
    assert classes is not None
    assert (len(classes), classes[1], classes[5], classes[117]) == (117, "spleen", "liver", "costal_cartilages")


def test_a_header_without_a_label_table_names_nothing() -> None:
    other = caret(b"a comment", 6)
    assert class_names_of(image_with().header, "case") is None
    assert class_names_of(image_with(other).header, "case") is None
    assert class_names_of(image_with(other, class_names_extension(CLASSES)).header, "case") == CLASSES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<CaretExtension><LabelTable><Label Key='1'>liver</LabelTable>", "damaged"),
        (b"<CaretExtension><LabelTable><Label>liver</Label></LabelTable></CaretExtension>", "damaged.*Key"),
        (b"<CaretExtension><LabelTable><Label Key='one'>liver</Label></LabelTable></CaretExtension>", "damaged"),
        (b"<CaretExtension><LabelTable><Label Key='-1'>liver</Label></LabelTable></CaretExtension>", "negative"),
        (b"<CaretExtension><LabelTable><Label Key='1'> </Label></LabelTable></CaretExtension>", "no name"),
        (b"<C><LabelTable><Label Key='1'>a</Label><Label Key='1'>b</Label></LabelTable></C>", "twice"),
        (b"<?xml version='1.0' encoding='utfc8'?><C><LabelTable><Label Key='1'>a</Label></LabelTable></C>", "unknown encoding"),
        (b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><C><LabelTable><Label Key='1'>&a;</Label></LabelTable></C>", "DOCTYPE"),
    ],
)
def test_a_damaged_table_is_refused_with_a_way_out(text: bytes, words: str) -> None:
    with pytest.raises(VolumeError, match=f"case.nii: .*{words}.*--classes"):
        class_names_of(image_with(caret(text)).header, "case.nii")
