"""Decode the pixels of DICOM slices: native or compressed, in the volume's own unit.

pydicom decodes RLE itself, JPEG 2000 and HTJ2K by OpenJPEG, JPEG-LS by CharLS, and SimpleITK's GDCM the older JPEGs (in a process of its
own). What the header and the stream's own frame header say of the size must agree first: a decoder that believes a damaged size asks for
gigabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import (
    HTJ2K,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pydicom.uid import JPEG2000 as JPEG2000Any

from augserver.errors import VolumeError
from augserver.ingest.readers.dicom_header import DicomSlice, hostile_dicom
from augserver.ingest.readers.jpeg_process import read_in_process

_JPEG_2000 = (JPEG2000Lossless, JPEG2000Any, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
_DECODERS = (
    {RLELossless: "pydicom"} | dict.fromkeys(_JPEG_2000, "pylibjpeg") | dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "pyjpegls")
)
_BY_SIMPLEITK = (JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit)
_BITS = (8, 16, 32)


def read_planes(slices: Sequence[DicomSlice], *, what: Callable[[DicomSlice], str]) -> Iterator[NDArray[Any]]:
    """Decode slices one after the other; a file is read once for frames of it that follow each other.

    Args:
        what: names a slice in errors, without its file name.
    Yields:
        (rows, columns): the stored integers if there is no rescaling; int32 where slope and intercept are whole, else float32. Padding
        (PixelPaddingValue) is rescaled as all values are, and MONOCHROME1 is not inverted.
    Raises:
        VolumeError: another size, too few bytes, a transfer syntax without decoder, or a damaged stream.
    """
    data: Any = None
    for one in slices:
        with hostile_dicom(what(one)):
            if data is None or data.filename != str(one.file):
                data = pydicom.dcmread(one.file, force=True)
            plane = _read_plane(data, one, what(one))
        yield plane


def _read_plane(data: Any, one: DicomSlice, what: str) -> NDArray[Any]:
    stored = _decode(data, one, what)
    if one.by_table:
        return np.asarray(apply_modality_lut(stored, data))
    if _syntax_of(data) in _BY_SIMPLEITK:
        return stored  # rescaled already
    slope, intercept = one.rescale or (1.0, 0.0)
    return _rescaled(stored, slope, intercept, what)


def _syntax_of(data: Any) -> UID:
    """The transfer syntax; where the file does not say, the one by which pydicom could read its header."""
    if "TransferSyntaxUID" in data.file_meta:
        return UID(data.file_meta.TransferSyntaxUID)
    implicit, little = data.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _decode(data: Any, one: DicomSlice, what: str) -> NDArray[Any]:
    syntax = _syntax_of(data)
    rows, columns = one.rows, one.columns
    bits, stored = int(data.BitsAllocated), int(data.BitsStored)
    if (data.Rows, data.Columns) != (rows, columns) or min(rows, columns) < 1:
        raise VolumeError(f"{what}: is {data.Rows} x {data.Columns} pixels, was {rows} x {columns}; copy it again")
    if bits not in _BITS or not 1 <= stored <= bits or data.PixelRepresentation not in (0, 1):
        raise VolumeError(f"{what}: stores {stored} of {bits} bits; 8, 16 or 32 bits from bit 0 are taken")
    if not syntax.is_compressed or syntax.is_deflated:
        return _native(data, one, what, little=syntax.is_little_endian)
    if int(data.HighBit) != stored - 1:
        raise VolumeError(f"{what}: stores {stored} bits up to bit {data.HighBit}, must be up to bit {stored - 1}; unpack the series first")
    plugin = _DECODERS.get(syntax)
    if plugin is None and (syntax not in _BY_SIMPLEITK or one.frames > 1):
        raise VolumeError(f"{what}: is packed as {syntax.name}, which is not taken; unpack the series first, for example with dcmdjpeg")
    table = (data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in data else None
    stream = get_frame(data.PixelData, one.frame, number_of_frames=one.frames, extended_offsets=table)
    if syntax != RLELossless and _stream_size(stream) != (rows, columns):
        raise VolumeError(f"{what}: the header says {rows} x {columns} pixels, the packed image {_stream_size(stream)}; copy it again")
    if syntax in _BY_SIMPLEITK:
        return _read_by_simpleitk(one.file, rows, columns, what)
    pixels: NDArray[Any] = get_decoder(syntax).as_array(data, index=one.frame, raw=True, decoding_plugin=plugin or "")[0]
    if pixels.shape != (rows, columns):
        raise VolumeError(f"{what}: decodes to {pixels.shape}, the header says {(rows, columns)}; copy it again from its source")
    return _sign_extended(pixels, bits - stored) if syntax == RLELossless else pixels


def _native(data: Any, one: DicomSlice, what: str, *, little: bool) -> NDArray[Any]:
    """The pixels of a frame that is not packed."""
    bits, stored = int(data.BitsAllocated), int(data.BitsStored)
    size = one.rows * one.columns * bits // 8
    expected = size * one.frames
    found = len(data.PixelData or b"")
    # Some writers pad the pixels; as many bytes as another frame are no padding.
    if not expected <= found < expected + max(size, 2):
        raise VolumeError(f"{what}: the header promises {expected} bytes of pixels, the file has {found}; copy it again from its source")
    kind = "i" if data.PixelRepresentation else "u"
    if bits == 8 and not little and data["PixelData"].VR == "OW":  # pairs of bytes were swapped as words
        swapped = np.frombuffer(data.PixelData, ">u2", len(data.PixelData) // 2).astype("<u2").tobytes()
        raw = np.frombuffer(swapped, f"{kind}1", one.rows * one.columns, one.frame * size)
    else:
        raw = np.frombuffer(data.PixelData, f"{'<' if little else '>'}{kind}{bits // 8}", one.rows * one.columns, one.frame * size)
    pixels = raw.reshape(one.rows, one.columns).astype(raw.dtype.newbyteorder("="))
    words = pixels.view(f"u{bits // 8}")
    if int(data.HighBit) != stored - 1 and not np.array_equal(_sign_extended(words, bits - stored), words):
        raise VolumeError(
            f"{what}: stores {stored} of {bits} bits, high bit {data.HighBit}, and has values of more bits, so that nobody can tell which "
            f"{stored} count; correct HighBit and BitsStored"
        )
    return _sign_extended(pixels, bits - stored)


def _read_by_simpleitk(file: Path, rows: int, columns: int, what: str) -> NDArray[Any]:
    """Decode and rescale one slice by SimpleITK."""
    values = read_in_process(str(file), what)
    if values.shape != (rows, columns):
        raise VolumeError(f"{what}: decodes to {values.shape}, the header says {(rows, columns)}; copy it again from its source")
    return values


def _sign_extended(pixels: NDArray[Any], unused: int) -> NDArray[Any]:
    """Clear the bits above those stored (overlays lived there once), or fill them with the sign."""
    return (pixels << unused) >> unused if unused else pixels


def _rescaled(stored: NDArray[Any], slope: float, intercept: float, what: str) -> NDArray[Any]:
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise VolumeError(f"{what}: rescale slope {slope} and intercept {intercept} have no meaning; correct the header")
    if slope == 1 and intercept == 0:
        return stored
    values = stored.astype(np.float64) * slope + intercept
    whole = slope.is_integer() and intercept.is_integer() and max(-values.min(), values.max()) < 1 << 31
    return values.astype(np.int32 if whole else np.float32)


def _stream_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) as a JPEG, JPEG-LS or JPEG 2000 stream itself says; None if it is none."""
    start = stream.find(b"\xff\x4f\xff\x51", 0, 1024)  # SOC, SIZ; behind boxes if the stream is a whole JP2 file
    if start >= 0 and len(stream) >= start + 24:
        x1, y1, x0, y0 = (int.from_bytes(stream[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
        return y1 - y0, x1 - x0
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):  # start of frame, JPEG-LS or JPEG
            return int.from_bytes(stream[at + 5 : at + 7], "big"), int.from_bytes(stream[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
