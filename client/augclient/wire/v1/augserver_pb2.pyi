from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageDtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FLOAT32: _ClassVar[ImageDtype]
    FLOAT16: _ClassVar[ImageDtype]
    UINT8: _ClassVar[ImageDtype]

class Delivery(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARTS: _ClassVar[Delivery]
    SAMPLES: _ClassVar[Delivery]

class Interpolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINEAR: _ClassVar[Interpolation]
    NEAREST: _ClassVar[Interpolation]
FLOAT32: ImageDtype
FLOAT16: ImageDtype
UINT8: ImageDtype
PARTS: Delivery
SAMPLES: Delivery
LINEAR: Interpolation
NEAREST: Interpolation

class GetDatasetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("fingerprint", "modality", "volumes", "classes", "class_voxels", "spacing_mm", "peers", "local_socket", "quarantined", "local_reason")
    class ClassesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class ClassVoxelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    CLASS_VOXELS_FIELD_NUMBER: _ClassVar[int]
    SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_SOCKET_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    LOCAL_REASON_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    modality: str
    volumes: _containers.RepeatedCompositeFieldContainer[VolumeInfo]
    classes: _containers.ScalarMap[int, str]
    class_voxels: _containers.ScalarMap[int, int]
    spacing_mm: _containers.RepeatedScalarFieldContainer[float]
    peers: _containers.RepeatedScalarFieldContainer[str]
    local_socket: str
    quarantined: _containers.RepeatedCompositeFieldContainer[Quarantined]
    local_reason: str
    def __init__(self, fingerprint: _Optional[str] = ..., modality: _Optional[str] = ..., volumes: _Optional[_Iterable[_Union[VolumeInfo, _Mapping]]] = ..., classes: _Optional[_Mapping[int, str]] = ..., class_voxels: _Optional[_Mapping[int, int]] = ..., spacing_mm: _Optional[_Iterable[float]] = ..., peers: _Optional[_Iterable[str]] = ..., local_socket: _Optional[str] = ..., quarantined: _Optional[_Iterable[_Union[Quarantined, _Mapping]]] = ..., local_reason: _Optional[str] = ...) -> None: ...

class Quarantined(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class VolumeInfo(_message.Message):
    __slots__ = ("id", "shape", "dtype", "spacing_mm", "affine", "has_label", "class_voxels", "source_shape", "source_affine")
    class ClassVoxelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SPACING_MM_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    HAS_LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_VOXELS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_AFFINE_FIELD_NUMBER: _ClassVar[int]
    id: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    spacing_mm: _containers.RepeatedScalarFieldContainer[float]
    affine: _containers.RepeatedScalarFieldContainer[float]
    has_label: bool
    class_voxels: _containers.ScalarMap[int, int]
    source_shape: _containers.RepeatedScalarFieldContainer[int]
    source_affine: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, id: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., spacing_mm: _Optional[_Iterable[float]] = ..., affine: _Optional[_Iterable[float]] = ..., has_label: bool = ..., class_voxels: _Optional[_Mapping[int, int]] = ..., source_shape: _Optional[_Iterable[int]] = ..., source_affine: _Optional[_Iterable[float]] = ...) -> None: ...

class GetVolumeRequest(_message.Message):
    __slots__ = ("id", "part_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    PART_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: str
    part_bytes: int
    def __init__(self, id: _Optional[str] = ..., part_bytes: _Optional[int] = ...) -> None: ...

class VolumePart(_message.Message):
    __slots__ = ("info", "image_offset", "label_offset", "last", "image", "label")
    INFO_FIELD_NUMBER: _ClassVar[int]
    IMAGE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    info: VolumeInfo
    image_offset: int
    label_offset: int
    last: bool
    image: bytes
    label: bytes
    def __init__(self, info: _Optional[_Union[VolumeInfo, _Mapping]] = ..., image_offset: _Optional[int] = ..., label_offset: _Optional[int] = ..., last: bool = ..., image: _Optional[bytes] = ..., label: _Optional[bytes] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Recipe(_message.Message):
    __slots__ = ("crop", "affine", "occlude", "contrast", "brightness", "gamma", "noise", "window", "labels", "output", "steps")
    class Crop(_message.Message):
        __slots__ = ("mode", "pad", "patches_per_volume")
        MODE_FIELD_NUMBER: _ClassVar[int]
        PAD_FIELD_NUMBER: _ClassVar[int]
        PATCHES_PER_VOLUME_FIELD_NUMBER: _ClassVar[int]
        mode: str
        pad: bool
        patches_per_volume: int
        def __init__(self, mode: _Optional[str] = ..., pad: bool = ..., patches_per_volume: _Optional[int] = ...) -> None: ...
    class Affine(_message.Message):
        __slots__ = ("rotate_deg", "scale", "shear", "warp", "reflect", "translate_mm", "probability")
        ROTATE_DEG_FIELD_NUMBER: _ClassVar[int]
        SCALE_FIELD_NUMBER: _ClassVar[int]
        SHEAR_FIELD_NUMBER: _ClassVar[int]
        WARP_FIELD_NUMBER: _ClassVar[int]
        REFLECT_FIELD_NUMBER: _ClassVar[int]
        TRANSLATE_MM_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        rotate_deg: _containers.RepeatedCompositeFieldContainer[Range]
        scale: _containers.RepeatedCompositeFieldContainer[Range]
        shear: _containers.RepeatedCompositeFieldContainer[Range]
        warp: _containers.RepeatedCompositeFieldContainer[Range]
        reflect: _containers.RepeatedScalarFieldContainer[float]
        translate_mm: _containers.RepeatedCompositeFieldContainer[Range]
        probability: float
        def __init__(self, rotate_deg: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., scale: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., shear: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., warp: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., reflect: _Optional[_Iterable[float]] = ..., translate_mm: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., probability: _Optional[float] = ...) -> None: ...
    class Occlude(_message.Message):
        __slots__ = ("max_voxels", "probability", "label", "keep_label")
        MAX_VOXELS_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        LABEL_FIELD_NUMBER: _ClassVar[int]
        KEEP_LABEL_FIELD_NUMBER: _ClassVar[int]
        max_voxels: int
        probability: float
        label: int
        keep_label: bool
        def __init__(self, max_voxels: _Optional[int] = ..., probability: _Optional[float] = ..., label: _Optional[int] = ..., keep_label: bool = ...) -> None: ...
    class Contrast(_message.Message):
        __slots__ = ("factor",)
        FACTOR_FIELD_NUMBER: _ClassVar[int]
        factor: Range
        def __init__(self, factor: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...
    class Brightness(_message.Message):
        __slots__ = ("offset",)
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        offset: Range
        def __init__(self, offset: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...
    class Gamma(_message.Message):
        __slots__ = ("exponent",)
        EXPONENT_FIELD_NUMBER: _ClassVar[int]
        exponent: Range
        def __init__(self, exponent: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...
    class Noise(_message.Message):
        __slots__ = ("std",)
        STD_FIELD_NUMBER: _ClassVar[int]
        std: Range
        def __init__(self, std: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...
    class Window(_message.Message):
        __slots__ = ("low", "high")
        LOW_FIELD_NUMBER: _ClassVar[int]
        HIGH_FIELD_NUMBER: _ClassVar[int]
        low: Range
        high: Range
        def __init__(self, low: _Optional[_Union[Range, _Mapping]] = ..., high: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...
    class Labels(_message.Message):
        __slots__ = ("keep",)
        KEEP_FIELD_NUMBER: _ClassVar[int]
        keep: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, keep: _Optional[_Iterable[str]] = ...) -> None: ...
    class Output(_message.Message):
        __slots__ = ("fill", "sampler", "spacing_mm", "labels", "outside_label", "ignore_outside_label", "border")
        FILL_FIELD_NUMBER: _ClassVar[int]
        SAMPLER_FIELD_NUMBER: _ClassVar[int]
        SPACING_MM_FIELD_NUMBER: _ClassVar[int]
        LABELS_FIELD_NUMBER: _ClassVar[int]
        OUTSIDE_LABEL_FIELD_NUMBER: _ClassVar[int]
        IGNORE_OUTSIDE_LABEL_FIELD_NUMBER: _ClassVar[int]
        BORDER_FIELD_NUMBER: _ClassVar[int]
        fill: float
        sampler: str
        spacing_mm: _containers.RepeatedScalarFieldContainer[float]
        labels: str
        outside_label: int
        ignore_outside_label: bool
        border: str
        def __init__(self, fill: _Optional[float] = ..., sampler: _Optional[str] = ..., spacing_mm: _Optional[_Iterable[float]] = ..., labels: _Optional[str] = ..., outside_label: _Optional[int] = ..., ignore_outside_label: bool = ..., border: _Optional[str] = ...) -> None: ...
    class Step(_message.Message):
        __slots__ = ("op", "values")
        OP_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        op: str
        values: _struct_pb2.Struct
        def __init__(self, op: _Optional[str] = ..., values: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...
    CROP_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    OCCLUDE_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    BRIGHTNESS_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    crop: Recipe.Crop
    affine: Recipe.Affine
    occlude: Recipe.Occlude
    contrast: Recipe.Contrast
    brightness: Recipe.Brightness
    gamma: Recipe.Gamma
    noise: Recipe.Noise
    window: Recipe.Window
    labels: Recipe.Labels
    output: Recipe.Output
    steps: _containers.RepeatedCompositeFieldContainer[Recipe.Step]
    def __init__(self, crop: _Optional[_Union[Recipe.Crop, _Mapping]] = ..., affine: _Optional[_Union[Recipe.Affine, _Mapping]] = ..., occlude: _Optional[_Union[Recipe.Occlude, _Mapping]] = ..., contrast: _Optional[_Union[Recipe.Contrast, _Mapping]] = ..., brightness: _Optional[_Union[Recipe.Brightness, _Mapping]] = ..., gamma: _Optional[_Union[Recipe.Gamma, _Mapping]] = ..., noise: _Optional[_Union[Recipe.Noise, _Mapping]] = ..., window: _Optional[_Union[Recipe.Window, _Mapping]] = ..., labels: _Optional[_Union[Recipe.Labels, _Mapping]] = ..., output: _Optional[_Union[Recipe.Output, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[Recipe.Step, _Mapping]]] = ...) -> None: ...

class AppliedStep(_message.Message):
    __slots__ = ("op", "fired", "channels", "values")
    OP_FIELD_NUMBER: _ClassVar[int]
    FIRED_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    op: str
    fired: bool
    channels: _containers.RepeatedScalarFieldContainer[int]
    values: _struct_pb2.Struct
    def __init__(self, op: _Optional[str] = ..., fired: bool = ..., channels: _Optional[_Iterable[int]] = ..., values: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class StreamBatchesRequest(_message.Message):
    __slots__ = ("recipe", "patch", "batch_size", "seed", "start", "steps", "rank", "world", "image_dtype", "delivery", "part_bytes", "fingerprint", "share", "local", "volumes", "stride")
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    PART_BYTES_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    recipe: Recipe
    patch: _containers.RepeatedScalarFieldContainer[int]
    batch_size: int
    seed: int
    start: int
    steps: int
    rank: int
    world: int
    image_dtype: ImageDtype
    delivery: Delivery
    part_bytes: int
    fingerprint: str
    share: Share
    local: Local
    volumes: _containers.RepeatedScalarFieldContainer[str]
    stride: int
    def __init__(self, recipe: _Optional[_Union[Recipe, _Mapping]] = ..., patch: _Optional[_Iterable[int]] = ..., batch_size: _Optional[int] = ..., seed: _Optional[int] = ..., start: _Optional[int] = ..., steps: _Optional[int] = ..., rank: _Optional[int] = ..., world: _Optional[int] = ..., image_dtype: _Optional[_Union[ImageDtype, str]] = ..., delivery: _Optional[_Union[Delivery, str]] = ..., part_bytes: _Optional[int] = ..., fingerprint: _Optional[str] = ..., share: _Optional[_Union[Share, _Mapping]] = ..., local: _Optional[_Union[Local, _Mapping]] = ..., volumes: _Optional[_Iterable[str]] = ..., stride: _Optional[int] = ...) -> None: ...

class Local(_message.Message):
    __slots__ = ("token", "leases")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    leases: int
    def __init__(self, token: _Optional[bytes] = ..., leases: _Optional[int] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("members", "member", "instead_of")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    INSTEAD_OF_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedScalarFieldContainer[str]
    member: str
    instead_of: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, members: _Optional[_Iterable[str]] = ..., member: _Optional[str] = ..., instead_of: _Optional[_Iterable[str]] = ...) -> None: ...

class GetSampleRequest(_message.Message):
    __slots__ = ("recipe", "patch", "seed", "index", "image_dtype", "fingerprint", "volumes")
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    recipe: Recipe
    patch: _containers.RepeatedScalarFieldContainer[int]
    seed: int
    index: int
    image_dtype: ImageDtype
    fingerprint: str
    volumes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, recipe: _Optional[_Union[Recipe, _Mapping]] = ..., patch: _Optional[_Iterable[int]] = ..., seed: _Optional[int] = ..., index: _Optional[int] = ..., image_dtype: _Optional[_Union[ImageDtype, str]] = ..., fingerprint: _Optional[str] = ..., volumes: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchPart(_message.Message):
    __slots__ = ("step", "header", "image_offset", "label_offset", "last", "image", "label", "slot")
    STEP_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    step: int
    header: BatchHeader
    image_offset: int
    label_offset: int
    last: bool
    image: bytes
    label: bytes
    slot: SlotRef
    def __init__(self, step: _Optional[int] = ..., header: _Optional[_Union[BatchHeader, _Mapping]] = ..., image_offset: _Optional[int] = ..., label_offset: _Optional[int] = ..., last: bool = ..., image: _Optional[bytes] = ..., label: _Optional[bytes] = ..., slot: _Optional[_Union[SlotRef, _Mapping]] = ...) -> None: ...

class SlotRef(_message.Message):
    __slots__ = ("lease", "image_offset", "label_offset")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    lease: int
    image_offset: int
    label_offset: int
    def __init__(self, lease: _Optional[int] = ..., image_offset: _Optional[int] = ..., label_offset: _Optional[int] = ...) -> None: ...

class BatchHeader(_message.Message):
    __slots__ = ("image_shape", "image_dtype", "label_shape", "samples", "fingerprint")
    IMAGE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    image_shape: _containers.RepeatedScalarFieldContainer[int]
    image_dtype: str
    label_shape: _containers.RepeatedScalarFieldContainer[int]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    fingerprint: str
    def __init__(self, image_shape: _Optional[_Iterable[int]] = ..., image_dtype: _Optional[str] = ..., label_shape: _Optional[_Iterable[int]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("index", "epoch", "volume", "affine", "fill", "noise_std", "noise_key", "window_low", "window_high", "occlusion_start", "occlusion_stop", "contrast", "brightness", "gamma", "replaces", "label_rule", "outside_label", "border", "fills", "steps")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    NOISE_STD_FIELD_NUMBER: _ClassVar[int]
    NOISE_KEY_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LOW_FIELD_NUMBER: _ClassVar[int]
    WINDOW_HIGH_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_START_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_STOP_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    BRIGHTNESS_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    LABEL_RULE_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_LABEL_FIELD_NUMBER: _ClassVar[int]
    BORDER_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    index: int
    epoch: int
    volume: str
    affine: _containers.RepeatedScalarFieldContainer[float]
    fill: float
    noise_std: float
    noise_key: int
    window_low: float
    window_high: float
    occlusion_start: int
    occlusion_stop: int
    contrast: float
    brightness: float
    gamma: float
    replaces: str
    label_rule: str
    outside_label: int
    border: str
    fills: _containers.RepeatedScalarFieldContainer[float]
    steps: _containers.RepeatedCompositeFieldContainer[AppliedStep]
    def __init__(self, index: _Optional[int] = ..., epoch: _Optional[int] = ..., volume: _Optional[str] = ..., affine: _Optional[_Iterable[float]] = ..., fill: _Optional[float] = ..., noise_std: _Optional[float] = ..., noise_key: _Optional[int] = ..., window_low: _Optional[float] = ..., window_high: _Optional[float] = ..., occlusion_start: _Optional[int] = ..., occlusion_stop: _Optional[int] = ..., contrast: _Optional[float] = ..., brightness: _Optional[float] = ..., gamma: _Optional[float] = ..., replaces: _Optional[str] = ..., label_rule: _Optional[str] = ..., outside_label: _Optional[int] = ..., border: _Optional[str] = ..., fills: _Optional[_Iterable[float]] = ..., steps: _Optional[_Iterable[_Union[AppliedStep, _Mapping]]] = ...) -> None: ...

class WarpPart(_message.Message):
    __slots__ = ("item", "header", "image_offset", "label_offset", "last", "image", "label")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    item: int
    header: WarpItem
    image_offset: int
    label_offset: int
    last: bool
    image: bytes
    label: bytes
    def __init__(self, item: _Optional[int] = ..., header: _Optional[_Union[WarpItem, _Mapping]] = ..., image_offset: _Optional[int] = ..., label_offset: _Optional[int] = ..., last: bool = ..., image: _Optional[bytes] = ..., label: _Optional[bytes] = ...) -> None: ...

class WarpItem(_message.Message):
    __slots__ = ("image_shape", "image_dtype", "has_label", "output_shape", "output_dtype", "interpolation", "transform")
    IMAGE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    HAS_LABEL_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DTYPE_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    image_shape: _containers.RepeatedScalarFieldContainer[int]
    image_dtype: str
    has_label: bool
    output_shape: _containers.RepeatedScalarFieldContainer[int]
    output_dtype: ImageDtype
    interpolation: Interpolation
    transform: Transform
    def __init__(self, image_shape: _Optional[_Iterable[int]] = ..., image_dtype: _Optional[str] = ..., has_label: bool = ..., output_shape: _Optional[_Iterable[int]] = ..., output_dtype: _Optional[_Union[ImageDtype, str]] = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., transform: _Optional[_Union[Transform, _Mapping]] = ...) -> None: ...

class Transform(_message.Message):
    __slots__ = ("affine", "fill", "noise_std", "noise_key", "window_low", "window_high", "occlusion_start", "occlusion_stop", "contrast", "pivot", "brightness", "gamma", "occlusion_label", "keep_occluded_label", "keep_labels", "label_rule", "outside_label", "border", "fills", "ignore_label", "steps")
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    NOISE_STD_FIELD_NUMBER: _ClassVar[int]
    NOISE_KEY_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LOW_FIELD_NUMBER: _ClassVar[int]
    WINDOW_HIGH_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_START_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_STOP_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    PIVOT_FIELD_NUMBER: _ClassVar[int]
    BRIGHTNESS_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_LABEL_FIELD_NUMBER: _ClassVar[int]
    KEEP_OCCLUDED_LABEL_FIELD_NUMBER: _ClassVar[int]
    KEEP_LABELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_RULE_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_LABEL_FIELD_NUMBER: _ClassVar[int]
    BORDER_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_LABEL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    affine: _containers.RepeatedScalarFieldContainer[float]
    fill: float
    noise_std: float
    noise_key: int
    window_low: float
    window_high: float
    occlusion_start: int
    occlusion_stop: int
    contrast: float
    pivot: float
    brightness: float
    gamma: float
    occlusion_label: int
    keep_occluded_label: bool
    keep_labels: _containers.RepeatedScalarFieldContainer[int]
    label_rule: str
    outside_label: int
    border: str
    fills: _containers.RepeatedScalarFieldContainer[float]
    ignore_label: int
    steps: _containers.RepeatedCompositeFieldContainer[AppliedStep]
    def __init__(self, affine: _Optional[_Iterable[float]] = ..., fill: _Optional[float] = ..., noise_std: _Optional[float] = ..., noise_key: _Optional[int] = ..., window_low: _Optional[float] = ..., window_high: _Optional[float] = ..., occlusion_start: _Optional[int] = ..., occlusion_stop: _Optional[int] = ..., contrast: _Optional[float] = ..., pivot: _Optional[float] = ..., brightness: _Optional[float] = ..., gamma: _Optional[float] = ..., occlusion_label: _Optional[int] = ..., keep_occluded_label: bool = ..., keep_labels: _Optional[_Iterable[int]] = ..., label_rule: _Optional[str] = ..., outside_label: _Optional[int] = ..., border: _Optional[str] = ..., fills: _Optional[_Iterable[float]] = ..., ignore_label: _Optional[int] = ..., steps: _Optional[_Iterable[_Union[AppliedStep, _Mapping]]] = ...) -> None: ...

class WarpedPart(_message.Message):
    __slots__ = ("item", "header", "image_offset", "label_offset", "last", "image", "label")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LABEL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    item: int
    header: WarpedItem
    image_offset: int
    label_offset: int
    last: bool
    image: bytes
    label: bytes
    def __init__(self, item: _Optional[int] = ..., header: _Optional[_Union[WarpedItem, _Mapping]] = ..., image_offset: _Optional[int] = ..., label_offset: _Optional[int] = ..., last: bool = ..., image: _Optional[bytes] = ..., label: _Optional[bytes] = ...) -> None: ...

class WarpedItem(_message.Message):
    __slots__ = ("image_shape", "image_dtype", "has_label")
    IMAGE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    HAS_LABEL_FIELD_NUMBER: _ClassVar[int]
    image_shape: _containers.RepeatedScalarFieldContainer[int]
    image_dtype: str
    has_label: bool
    def __init__(self, image_shape: _Optional[_Iterable[int]] = ..., image_dtype: _Optional[str] = ..., has_label: bool = ...) -> None: ...
