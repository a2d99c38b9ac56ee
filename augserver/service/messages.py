"""Turn what the server knows into messages of the contract; no payload passes here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from augclient.wire.v1 import augserver_pb2 as pb
from numpy.typing import NDArray

from augserver.augment.sample import SampleParams
from augserver.service.step_messages import applied_message
from augserver.store import Dataset
from augserver.volume import VolumeInfo


def dataset_message(dataset: Dataset) -> pb.Dataset:
    """What GetDataset answers."""
    infos = [dataset.info(id_) for id_ in dataset.volumes]
    spacings = {info.spacing_mm for info in infos}
    return pb.Dataset(
        fingerprint=dataset.fingerprint,
        modality=dataset.modality,
        volumes=[volume_message(info) for info in infos],
        classes=dict(dataset.classes),
        class_voxels=dict(dataset.class_voxels),
        spacing_mm=spacings.pop() if len(spacings) == 1 else (),
    )


def volume_message(info: VolumeInfo) -> pb.VolumeInfo:
    """One volume without its voxels."""
    return pb.VolumeInfo(
        id=info.id,
        shape=info.shape,
        dtype=info.dtype,
        spacing_mm=info.spacing_mm,
        affine=np.asarray(info.affine, np.float64).ravel().tolist(),
        has_label=info.has_label,
        class_voxels=dict(info.class_voxels),
        source_shape=info.source_shape or (),
        source_affine=() if info.source_affine is None else np.asarray(info.source_affine, np.float64).ravel().tolist(),
    )


def header_message(
    image: NDArray[Any], label: NDArray[np.uint8] | None, params: Sequence[SampleParams], fingerprint: str
) -> pb.BatchHeader:
    """Shapes and provenance of one batch: image (N, C, Z, Y, X), label (N, Z, Y, X) or None, N params."""
    return pb.BatchHeader(
        image_shape=image.shape,
        image_dtype=image.dtype.name,
        label_shape=() if label is None else label.shape,
        samples=[_sample_message(each) for each in params],
        fingerprint=fingerprint,
    )


def _sample_message(params: SampleParams) -> pb.Sample:
    low, high = params.window or (None, None)
    start, stop = params.occlusion or (None, None)
    # None leaves an optional field absent.
    return pb.Sample(
        index=params.index,
        epoch=params.epoch,
        volume=params.volume,
        affine=params.affine.ravel().tolist(),
        fill=params.fill,
        noise_std=params.noise_std,
        noise_key=params.noise_key,
        window_low=low,
        window_high=high,
        occlusion_start=start,
        occlusion_stop=stop,
        contrast=params.contrast,
        brightness=params.brightness,
        gamma=params.gamma,
        replaces=params.replaces,
        label_rule=params.label_rule,
        outside_label=params.outside_label,
        border=params.border,
        fills=params.fills or (),
        steps=map(applied_message, params.steps),
    )
