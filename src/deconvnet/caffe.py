"""Caffe's files, without Caffe: .caffemodel read and written, deploy prototxt written.

A .caffemodel is one protobuf message. Three dialects of it matter here:

- "deconvnet": the fork of the DeconvNet authors (June 2015): `layers` (field 2), layer types as
  numbers, blobs of four dimensions.
- "segnet": caffe-segnet: `layer` (field 100), layer types in words, blobs with a shape.
- "bvlc": Caffe itself, as "segnet" but without layers for the forks' batch norm and unpooling.
  OpenCV's dnn (up to 4.14) runs this dialect, and brings "MaxUnpool" for unpooling.

The reader takes every one of them, mixed if need be; a field it does not know is skipped.

Source: protobuf's description of its wire format; the field numbers of each fork's caffe.proto.
"""

import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from deconvnet.errors import CheckpointError
from deconvnet.files import written_whole

Dialect = Literal["deconvnet", "segnet", "bvlc"]
BatchNormMode = Literal["learn", "inference"]
Setting = int | float | bool | str

MAX_FIELDS = 200_000
"""Of one file; real networks have some thousands. A hostile file is refused within seconds."""
MAX_DEPTH = 32
"""Of protobuf groups within one another."""
MAX_AXES = 32
"""Of one blob; the limit of Caffe itself."""

V1_TYPES = (
    "None Accuracy BNLL Concat Convolution Data Dropout EuclideanLoss Flatten HDF5Data "
    "HDF5Output Im2col ImageData InfogainLoss InnerProduct LRN MultinomialLogisticLoss Pooling "
    "ReLU Sigmoid Softmax SoftmaxWithLoss Split TanH WindowData Eltwise Power "
    "SigmoidCrossEntropyLoss HingeLoss MemoryData ArgMax Threshold DummyData Slice MVN AbsVal "
    "Silence ContrastiveLoss Exp Deconvolution Crop EltwiseAccuracy Unpooling BN"
).split()
"""Layer types by their number in `layers`; 40 and up are the DeconvNet authors' own."""


@dataclass(frozen=True)
class CaffeLayer:
    """One layer of a Caffe network."""

    name: str
    type: str
    """As Caffe writes it in words: Convolution, Deconvolution, BN, Pooling, Unpooling, ..."""
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    blobs: tuple[np.ndarray, ...] = ()
    """float32; read-only views into the file where the file allows it."""
    bn_mode: BatchNormMode | None = None
    """Of a BN layer: "learn" normalises by the statistics of the batch, even in test;
    "inference" only scales and shifts. Caffe takes an absent mode for "learn"."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """What a prototxt says of the layer (num_output, pad, ...); not read from a .caffemodel."""


class CaffeModel(NamedTuple):
    """What a .caffemodel holds."""

    layers: list[CaffeLayer]
    name: str

    def blobs(self) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights of each layer that has some, by the layer's name."""
        return {layer.name: layer.blobs for layer in self.layers if layer.blobs}


# Reading


class _DamagedError(Exception):
    """The bytes are no protobuf message of this kind; the text says where."""


class _Field(NamedTuple):
    number: int
    value: int | memoryview
    """A number, or the bytes of a string, message, or run of fixed-size numbers."""


_VARINT, _FIXED64, _BYTES, _START_GROUP, _END_GROUP, _FIXED32 = range(6)


def read_caffemodel(path: str | Path) -> CaffeModel:
    """Read the layers, their types and their weights.

    The file is mapped, not loaded: memory is taken when a blob is used. Every length is held
    against what is left of the message around it before anything is made of it.

    Raises:
        CheckpointError: When the file is missing, damaged, cut short, or of another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise CheckpointError(f"{path} is empty; a .caffemodel is needed.")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); give the path of a .caffemodel."
        ) from None
    return parse_caffemodel(data, str(path))


def parse_caffemodel(data: bytes | memoryview, source: str = "the data") -> CaffeModel:
    """As `read_caffemodel`, from bytes; `source` names them in an error."""
    try:
        model = _parse_network(memoryview(data))
    except _DamagedError as error:
        raise CheckpointError(
            f"{source} is not a whole .caffemodel: {error}; download it again, or give the "
            ".caffemodel and not the prototxt."
        ) from None
    if not model.layers:
        raise CheckpointError(
            f"{source} holds no layers of a Caffe network; give a .caffemodel."
        )
    return model


def _parse_network(data: memoryview) -> CaffeModel:
    ticks = iter(range(MAX_FIELDS))
    name, layers = "", []
    for number, value in _fields(data, ticks):
        if number == 1:
            name = _text(value)
        elif number == 100:
            layers.append(_parse_layer(_message(value), ticks))
        elif number == 2:
            layers.append(_parse_v1_layer(_message(value), ticks))
    return CaffeModel(layers, name)


def _parse_layer(data: memoryview, ticks: Iterator[int]) -> CaffeLayer:
    """A LayerParameter, as caffe-segnet and BVLC write it."""
    names = {1: [""], 2: [""], 3: [], 4: []}  # name, type, bottoms, tops
    blobs, mode = [], None
    for number, value in _fields(data, ticks):
        if number in names:
            names[number].append(_text(value))
        elif number == 7:
            blobs.append(_message(value))
        elif number == 45:
            mode = _parse_bn_mode(value, ticks)
    name, kind = names[1][-1], names[2][-1]
    return CaffeLayer(
        name, kind, tuple(names[3]), tuple(names[4]), _parse_blobs(blobs, name, ticks), mode
    )


def _parse_v1_layer(data: memoryview, ticks: Iterator[int]) -> CaffeLayer:
    """A layer of the older format, which the DeconvNet authors' fork writes."""
    names: dict[int, list[str]] = {2: [], 3: [], 4: [""]}  # bottoms, tops, name
    kind, blobs, mode = 0, [], None
    for number, value in _fields(data, ticks):
        if number in names:
            names[number].append(_text(value))
        elif number == 5 and isinstance(value, int):
            kind = value
        elif number == 6:
            blobs.append(_message(value))
        elif number == 45:
            mode = _parse_bn_mode(value, ticks)
        elif number == 1:
            raise _DamagedError(
                "it is in Caffe's oldest format (before 2014), which Caffe's own "
                "upgrade_net_proto_binary turns into one that can be read"
            )
    type_name = V1_TYPES[kind] if kind < len(V1_TYPES) else f"V1 type {kind}"
    name = names[4][-1]
    return CaffeLayer(
        name,
        type_name,
        tuple(names[2]),
        tuple(names[3]),
        _parse_blobs(blobs, name, ticks),
        mode,
    )


def _parse_bn_mode(value: int | memoryview, ticks: Iterator[int]) -> BatchNormMode | None:
    mode: BatchNormMode | None = None
    for number, inner in _fields(_message(value), ticks):
        if number == 3:
            mode = "learn" if inner == 0 else "inference"
    return mode


def _parse_blobs(
    messages: list[memoryview], layer: str, ticks: Iterator[int]
) -> tuple[np.ndarray, ...]:
    blobs = []
    for index, message in enumerate(messages):
        try:
            blobs.append(_parse_blob(message, ticks))
        except _DamagedError as error:
            raise _DamagedError(f"blob {index} of layer {layer[:80]!r}: {error}") from None
    return tuple(blobs)


def _parse_blob(data: memoryview, ticks: Iterator[int]) -> np.ndarray:
    """Any of: four legacy sizes or a shape; floats or doubles, packed or one by one."""
    legacy: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    pieces: list[np.ndarray] = []
    for number, value in _fields(data, ticks):
        if number in (1, 2, 3, 4) and isinstance(value, int):
            legacy[number] = value
        elif number == 7:
            shape = _parse_shape(_message(value), ticks)
        elif number in (5, 8):
            pieces.append(_numbers(_message(value), np.dtype("<f4" if number == 5 else "<f8")))

    count = sum(len(piece) for piece in pieces)
    if shape is None:
        shape = tuple(legacy.get(axis, 0) for axis in (1, 2, 3, 4)) if legacy else (count,)
    if count == 0:
        raise _DamagedError("it holds no 32-bit or 64-bit floats")
    if math.prod(shape) != count:  # Python's integers: hostile sizes cannot wrap around
        raise _DamagedError(f"its shape is {_short(shape)}, but it holds {count} numbers")
    if len(pieces) == 1:
        return pieces[0].astype(np.float32, copy=False).reshape(shape)
    joined = np.concatenate([np.empty(0, np.float32), *pieces], dtype=np.float32)
    return joined.reshape(shape)


def _parse_shape(data: memoryview, ticks: Iterator[int]) -> tuple[int, ...]:
    sizes: list[int] = []
    for number, value in _fields(data, ticks):
        if number != 1:
            continue
        if isinstance(value, int):
            sizes.append(value)
            continue
        at = 0
        while at < len(value) and len(sizes) <= MAX_AXES:  # packed
            size, at = _varint(value, at)
            sizes.append(size)
    if len(sizes) > MAX_AXES:
        raise _DamagedError(f"it has more than {MAX_AXES} axes")
    return tuple(sizes)


def _numbers(data: memoryview, kind: np.dtype) -> np.ndarray:
    if len(data) % kind.itemsize:
        raise _DamagedError(
            f"{len(data)} bytes are no whole number of {8 * kind.itemsize}-bit floats"
        )
    return np.frombuffer(data, kind)


def _short(shape: tuple[int, ...]) -> str:
    return (
        " x ".join(str(size) if size < 10**9 else "huge" for size in shape)
        or "that of one number"
    )


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _DamagedError("a plain number stands where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", errors="replace")


def _fields(message: memoryview, ticks: Iterator[int]) -> Iterator[_Field]:
    """Walk the fields of one message, unknown ones too; `ticks` bounds how many in all."""
    at = 0
    while at < len(message):
        if next(ticks, None) is None:
            raise _DamagedError(f"it has more than {MAX_FIELDS:,} fields")
        tag_at = at
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number < 1 << 29:
            raise _DamagedError(f"{number} is no number of a field")
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield _Field(number, value)
        elif wire == _BYTES:
            length, at = _varint(message, at)
            yield _Field(number, _slice(message, at, length))
            at += length
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
            _slice(message, at, size)
            run = _run_of_records(message, tag_at, at - tag_at, size)
            yield _Field(number, run)
            at = tag_at + len(run) // size * (at - tag_at + size)
        elif wire == _START_GROUP:
            at = _skip_group(message, at, number, ticks)
        else:
            raise _DamagedError(f"field {number} is of no known kind")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise _DamagedError("it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _DamagedError("a number runs on for more than ten bytes")


def _slice(message: memoryview, at: int, length: int) -> memoryview:
    left = len(message) - at
    if length > left:
        raise _DamagedError(
            f"a part is said to be {length:,} bytes long, where {left:,} are left"
            if length < 1 << 50
            else "a part is said to be of a length no file has"
        )
    return message[at : at + length]


def _run_of_records(message: memoryview, start: int, tag_size: int, size: int) -> memoryview:
    """The payloads of records of the same tag that follow one another, joined.

    Numbers that are not packed each carry a tag: a file of 250 million of them would take
    minutes one at a time. The run is found by ever longer looks, so that a file with none costs
    no more than the first look.
    """
    stride = tag_size + size
    records = np.frombuffer(message, np.uint8, len(message) - start, start)
    records = records[: len(records) // stride * stride].reshape(-1, stride)
    count, look = 1, 16
    while count < len(records):
        same = (records[count : count + look, :tag_size] == records[0, :tag_size]).all(1)
        if not same.all():
            count += int(same.argmin())
            break
        count += len(same)
        look *= 2
    return memoryview(records[:count, tag_size:].tobytes())


def _skip_group(message: memoryview, at: int, number: int, ticks: Iterator[int]) -> int:
    """Where the group that begins here has ended. Nothing we read lies in a group."""
    open_groups = [number]
    while open_groups:
        if next(ticks, None) is None or len(open_groups) > MAX_DEPTH:
            raise _DamagedError("its groups are too many or too deep")
        tag, at = _varint(message, at)
        inner, wire = tag >> 3, tag & 7
        if wire == _END_GROUP:
            if open_groups.pop() != inner:
                raise _DamagedError(f"group {inner} ends where it did not begin")
        elif wire == _START_GROUP:
            open_groups.append(inner)
        elif wire == _VARINT:
            _, at = _varint(message, at)
        else:
            length = {_FIXED32: 4, _FIXED64: 8}.get(wire)
            if wire == _BYTES:
                length, at = _varint(message, at)
            if length is None:
                raise _DamagedError(f"field {inner} is of no known kind")
            _slice(message, at, length)
            at += length
    return at


# Writing


def write_caffemodel(
    path: str | Path, layers: Sequence[CaffeLayer], *, dialect: Dialect = "bvlc", name: str = ""
) -> None:
    """Write the layers and their weights as that Caffe would; whole, or not at all.

    In "bvlc", which has neither, BN in inference mode becomes Scale, and Unpooling becomes
    OpenCV's MaxUnpool.

    Raises:
        OutputError: When the file cannot be written.
        CheckpointError: When the dialect has no word for a layer.
    """
    check_dialect(dialect)
    encode = _encode_v1_layer if dialect == "deconvnet" else _encode_layer
    tag = 2 if dialect == "deconvnet" else 100
    encoded = [encode(_in_dialect(layer, dialect)) for layer in layers]
    with written_whole(path) as temporary, temporary.open("wb") as file:
        file.write(_bytes_field(1, name.encode()))
        for pieces in encoded:
            file.write(_header(tag, sum(len(piece) for piece in pieces)))
            file.writelines(pieces)


def _in_dialect(layer: CaffeLayer, dialect: Dialect) -> CaffeLayer:
    """The layer under the name its type has in that Caffe."""
    names = {
        "deconvnet": {},
        "segnet": {"Unpooling": "Upsample"},
        "bvlc": {"Unpooling": "MaxUnpool", "BN": "Scale"},
    }
    if dialect == "bvlc" and layer.type == "BN":
        if layer.bn_mode != "inference":
            raise CheckpointError(
                f"{layer.name} normalises by the batch (mode LEARN), for which Caffe's dialect "
                '"bvlc" has no layer; write it in "deconvnet" or "segnet".'
            )
        layer = CaffeLayer(
            layer.name,
            layer.type,
            layer.bottoms,
            layer.tops,
            tuple(blob.reshape(-1) for blob in layer.blobs),  # Scale wants one axis
            settings={"bias_term": True},
        )
    kind = names[dialect].get(layer.type, layer.type)
    return CaffeLayer(
        layer.name, kind, layer.bottoms, layer.tops, layer.blobs, layer.bn_mode, layer.settings
    )


def _encode_layer(layer: CaffeLayer) -> list[bytes | memoryview]:
    pieces: list[bytes | memoryview] = [
        _bytes_field(1, layer.name.encode()),
        _bytes_field(2, layer.type.encode()),
        *(_bytes_field(3, bottom.encode()) for bottom in layer.bottoms),
        *(_bytes_field(4, top.encode()) for top in layer.tops),
        *_encode_bn_mode(layer),
    ]
    for blob in layer.blobs:
        sizes = b"".join(_encode_varint(size) for size in blob.shape)
        pieces += _encode_blob(7, _bytes_field(7, _bytes_field(1, sizes)), blob)
    return pieces


def _encode_v1_layer(layer: CaffeLayer) -> list[bytes | memoryview]:
    if layer.type not in V1_TYPES:
        raise CheckpointError(
            f'The dialect "deconvnet" has no layer type {layer.type!r} ({layer.name}); '
            'write in the dialect "bvlc".'
        )
    pieces: list[bytes | memoryview] = [
        *(_bytes_field(2, bottom.encode()) for bottom in layer.bottoms),
        *(_bytes_field(3, top.encode()) for top in layer.tops),
        _bytes_field(4, layer.name.encode()),
        _encode_varint(5 << 3 | _VARINT) + _encode_varint(V1_TYPES.index(layer.type)),
        *_encode_bn_mode(layer),
    ]
    for blob in layer.blobs:
        sizes = (1,) * (4 - blob.ndim) + blob.shape  # a bias is 1 x 1 x 1 x N
        legacy = b"".join(
            _encode_varint(axis << 3 | _VARINT) + _encode_varint(size)
            for axis, size in enumerate(sizes, start=1)
        )
        pieces += _encode_blob(6, legacy, blob)
    return pieces


def _encode_bn_mode(layer: CaffeLayer) -> list[bytes]:
    if layer.bn_mode is None:
        return []
    mode = _encode_varint(3 << 3 | _VARINT) + _encode_varint(int(layer.bn_mode == "inference"))
    return [_bytes_field(45, mode)]


def _encode_blob(number: int, shape: bytes, blob: np.ndarray) -> list[bytes | memoryview]:
    values = np.ascontiguousarray(blob, "<f4").reshape(-1).view(np.uint8).data
    head = shape + _header(5, len(values))
    return [_header(number, len(head) + len(values)) + head, values]


def _bytes_field(number: int, value: bytes) -> bytes:
    return _header(number, len(value)) + value


def _header(number: int, length: int) -> bytes:
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(length)


def _encode_varint(value: int) -> bytes:
    """The other way of `_varint`.

    >>> _encode_varint(300).hex()
    'ac02'
    """
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])


def check_dialect(dialect: str) -> None:
    """Refuse a word that is none of `Dialect`."""
    if dialect not in get_args(Dialect):
        raise CheckpointError(
            f"{dialect!r} is no dialect of Caffe's files; "
            f"there are: {', '.join(get_args(Dialect))}."
        )


# The prototxt


PARAMETER_GROUPS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Pooling": "pooling_param",
    "Unpooling": "unpooling_param",
    "Upsample": "upsample_param",
    "MaxUnpool": "max_unpool_param",
    "BN": "bn_param",
    "Scale": "scale_param",
    "LRN": "lrn_param",
    "Crop": "crop_param",
    "Eltwise": "eltwise_param",
}
"""The message of a prototxt in which a layer's settings stand."""


def deploy_prototxt(
    layers: Sequence[CaffeLayer],
    *,
    size: tuple[int, int],
    in_channels: int = 3,
    dialect: Dialect = "bvlc",
    name: str = "deploy",
) -> str:
    """The prototxt that runs these layers on one picture of (height, width) pixels.

    An Unpooling layer's settings are its output's "height" and "width". Note that OpenCV's
    MaxUnpool always doubles: give it a size that halves evenly at each pooling.

    >>> relu = CaffeLayer("relu1", "ReLU", ("data",), ("data",))
    >>> print(deploy_prototxt([relu], size=(4, 6), name="tiny"))
    name: "tiny"
    input: "data"
    input_dim: 1
    input_dim: 3
    input_dim: 4
    input_dim: 6
    layer { name: "relu1" type: "ReLU" bottom: "data" top: "data" }
    <BLANKLINE>
    """
    check_dialect(dialect)
    lines = [f'name: "{name}"', 'input: "data"']
    lines += [f"input_dim: {dim}" for dim in (1, in_channels, *size)]
    for layer in layers:
        lines.append(_prototxt_layer(layer, dialect))
    return "\n".join(lines) + "\n"


def _prototxt_layer(layer: CaffeLayer, dialect: Dialect) -> str:
    spoken = _in_dialect(layer, dialect)
    kind = f'"{spoken.type}"'
    if dialect == "deconvnet":
        kind = _V1_WORDS.get(spoken.type, spoken.type.upper())
    parts = [f'name: "{spoken.name}"', f"type: {kind}"]
    parts += [f'bottom: "{bottom}"' for bottom in spoken.bottoms]
    parts += [f'top: "{top}"' for top in spoken.tops]
    settings = _unpool_settings(spoken) if layer.type == "Unpooling" else dict(spoken.settings)
    if spoken.bn_mode:
        settings["bn_mode"] = spoken.bn_mode.upper()
    if settings:
        inner = " ".join(f"{key}: {_prototxt_value(value)}" for key, value in settings.items())
        parts.append(f"{PARAMETER_GROUPS[spoken.type]} {{ {inner} }}")
    return f"{'layers' if dialect == 'deconvnet' else 'layer'} {{ {' '.join(parts)} }}"


_V1_WORDS = {"SoftmaxWithLoss": "SOFTMAX_LOSS", "InnerProduct": "INNER_PRODUCT"}
"""Types whose old word is not just the new one in capitals (of those we write)."""


def _unpool_settings(layer: CaffeLayer) -> dict[str, Setting]:
    """The size of the unpooled plane, in the words of the dialect whose type the layer has."""
    height, width = layer.settings["height"], layer.settings["width"]
    if layer.type == "Upsample":
        return {"scale": 2, "upsample_h": height, "upsample_w": width}
    if layer.type == "MaxUnpool":
        window = {"pool_k": 2, "pool_stride": 2, "pool_pad": 0}
        return {f"{key}_{axis}": value for key, value in window.items() for axis in "hw"}
    return {
        "unpool": "MAX",
        "kernel_size": 2,
        "stride": 2,
        "unpool_h": height,
        "unpool_w": width,
    }


def _prototxt_value(value: Setting) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)  # a word here is one of an enumeration: MAX, SUM
