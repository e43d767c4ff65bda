"""Caffe's files: the wire format, real files, damage."""

import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deconvnet import caffe
from deconvnet.caffe import (
    CaffeLayer,
    deploy_prototxt,
    parse_caffemodel,
    read_caffemodel,
    write_caffemodel,
)
from deconvnet.errors import CheckpointError, OutputError

CONV = CaffeLayer(
    "conv1_1",
    "Convolution",
    ("data",),
    ("conv1_1",),
    (np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3), np.array([0.5, -1], np.float32)),
)
BN = CaffeLayer(
    "bn1_1",
    "BN",
    ("conv1_1",),
    ("conv1_1",),
    (np.ones((1, 2, 1, 1), np.float32), np.full((1, 2, 1, 1), 0.001, np.float32)),
    "inference",
)
UNPOOL = CaffeLayer(
    "unpool1", "Unpooling", ("conv1_1", "mask"), ("up",), settings={"height": 8, "width": 8}
)


# protobuf by hand, apart from the code under test


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + varint(rest)


def number(field, value):
    return varint(field << 3) + varint(value)


def chunk(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def network_of_blob(blob):
    return chunk(100, chunk(1, b"layer") + chunk(2, b"Convolution") + chunk(7, blob))


def only_blob(data):
    (blob,) = parse_caffemodel(data).layers[0].blobs
    return blob


def assert_same_layers(read, written):
    for one, other in zip(read, written, strict=True):
        assert (one.name, one.bottoms, one.tops) == (other.name, other.bottoms, other.tops)
        for blob, expected in zip(one.blobs, other.blobs, strict=True):
            np.testing.assert_array_equal(blob.reshape(-1), expected.reshape(-1))


# Round trips


@pytest.mark.parametrize("dialect", ["deconvnet", "segnet"])
def test_what_is_written_is_read_again(tmp_path, dialect):
    path = tmp_path / "net.caffemodel"
    write_caffemodel(path, [CONV, BN, UNPOOL], dialect=dialect, name="tiny")
    model = read_caffemodel(path)
    assert model.name == "tiny"
    assert_same_layers(model.layers, [CONV, BN, UNPOOL])
    assert [layer.bn_mode for layer in model.layers] == [None, "inference", None]
    unpooling = {"deconvnet": "Unpooling", "segnet": "Upsample"}[dialect]
    assert [layer.type for layer in model.layers] == ["Convolution", "BN", unpooling]
    assert not list(tmp_path.glob("*.part"))


def test_biases_have_four_axes_in_the_older_format_and_one_in_the_newer(tmp_path):
    for dialect, shape in (("deconvnet", (1, 1, 1, 2)), ("bvlc", (2,))):
        write_caffemodel(tmp_path / "net", [CONV], dialect=dialect)
        assert read_caffemodel(tmp_path / "net").blobs()["conv1_1"][1].shape == shape


def test_plain_caffe_has_scale_for_batch_norm(tmp_path):
    write_caffemodel(tmp_path / "net", [BN], dialect="bvlc")
    (layer,) = read_caffemodel(tmp_path / "net").layers
    assert layer.type == "Scale"
    assert [blob.shape for blob in layer.blobs] == [(2,), (2,)]


def test_batch_norm_that_learns_is_refused_by_plain_caffe(tmp_path):
    learning = CaffeLayer("bn1_1", "BN", blobs=BN.blobs, bn_mode="learn")
    with pytest.raises(CheckpointError, match=r"bn1_1 normalises by the batch"):
        write_caffemodel(tmp_path / "net", [learning], dialect="bvlc")
    assert not list(tmp_path.iterdir())


def test_a_layer_unknown_to_the_older_format_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no layer type 'PReLU' \(p1\)"):
        write_caffemodel(tmp_path / "net", [CaffeLayer("p1", "PReLU")], dialect="deconvnet")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"):
        write_caffemodel(tmp_path / "file" / "net", [CONV])


@given(
    blob=arrays(np.float32, st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)),
    name=st.text(min_size=1, max_size=20),
)
@settings(max_examples=30, deadline=None)
def test_any_blob_and_any_name_survive(tmp_path_factory, blob, name):
    path = tmp_path_factory.mktemp("caffe") / "net"
    name = name.encode("utf-8", errors="replace").decode()
    for dialect in ("deconvnet", "segnet", "bvlc"):
        write_caffemodel(
            path, [CaffeLayer(name, "Convolution", blobs=(blob,))], dialect=dialect
        )
        (layer,) = read_caffemodel(path).layers
        assert layer.name == name
        np.testing.assert_array_equal(layer.blobs[0].reshape(-1), blob.reshape(-1))


# The ways a blob can be written

FLOATS = struct.pack("<6f", *range(6))
SHAPE = chunk(7, chunk(1, bytes([2, 3])))


@pytest.mark.parametrize(
    "blob",
    [
        SHAPE + chunk(5, FLOATS),
        chunk(5, FLOATS) + chunk(7, number(1, 2) + number(1, 3)),
        SHAPE + b"".join(b"\x2d" + FLOATS[at : at + 4] for at in range(0, 24, 4)),
        SHAPE + chunk(5, FLOATS[:8]) + b"\x2d" + FLOATS[8:12] + chunk(5, FLOATS[12:]),
        SHAPE + chunk(8, struct.pack("<6d", *range(6))),
        SHAPE + b"".join(b"\x41" + struct.pack("<d", value) for value in range(6)),
        SHAPE + chunk(5, FLOATS) + chunk(6, FLOATS) + chunk(9, b"") + number(10, 1),
    ],
    ids="packed shape-unpacked unpacked mixed double double-unpacked diff".split(),
)
def test_every_way_of_writing_a_blob_reads_the_same(blob):
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    read = only_blob(network_of_blob(blob))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)


def test_unpacked_floats_in_millions_take_no_minutes():
    records = np.zeros(1_000_000, np.dtype([("tag", "u1"), ("value", "<f4")]))
    records["tag"], records["value"] = 0x2D, np.arange(1_000_000)
    blob = only_blob(network_of_blob(records.tobytes()))
    np.testing.assert_array_equal(blob, records["value"])


def test_unknown_fields_are_skipped_wherever_they_stand():
    unknown = (
        number(147, 5)
        + chunk(152, b"new")
        + varint(149 << 3 | 5)
        + b"abcd"
        + varint(150 << 3 | 1)
        + b"abcdefgh"
        + varint(151 << 3 | 3)
        + number(1, 7)
        + chunk(2, b"in a group")
        + varint(151 << 3 | 4)
    )
    blob = unknown + SHAPE + unknown + chunk(5, FLOATS)
    layer = unknown + chunk(1, b"conv") + unknown + chunk(7, blob) + unknown
    assert only_blob(unknown + chunk(100, layer) + unknown).shape == (2, 3)


def test_both_formats_in_one_file_are_read():
    older = chunk(2, chunk(4, b"old") + number(5, 42))
    newer = chunk(100, chunk(1, b"new") + chunk(2, b"BN"))
    model = parse_caffemodel(older + newer)
    assert [(layer.name, layer.type) for layer in model.layers] == [
        ("old", "Unpooling"),
        ("new", "BN"),
    ]


# Damage


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no layers"),
        (chunk(1, b"only a name"), "holds no layers"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is not a whole .caffemodel"),
        (b'name: "LeNet"\nlayer {\n', "is not a whole .caffemodel"),
        (network_of_blob(SHAPE + chunk(5, FLOATS))[:-3], "bytes long, where"),
        (varint(100 << 3 | 2) + varint(2**62), "a length no file has"),
        (varint(100 << 3 | 2) + b"\xff" * 11, "more than ten bytes"),
        (b"\x80", "ends within a number"),
        (
            network_of_blob(chunk(7, chunk(1, varint(2**40) * 2)) + chunk(5, FLOATS)),
            "huge x huge",
        ),
        (
            network_of_blob(chunk(7, chunk(1, varint(2**32) * 2)) + chunk(5, FLOATS)),
            "huge x huge",
        ),
        (network_of_blob(chunk(7, chunk(1, b"\x01" * 40)) + chunk(5, FLOATS[:4])), "32 axes"),
        (network_of_blob(chunk(5, FLOATS[:5])), "no whole number of 32-bit floats"),
        (network_of_blob(SHAPE), "holds no 32-bit"),
        (network_of_blob(SHAPE + chunk(5, FLOATS[:4])), "2 x 3, but it holds 1 numbers"),
        (network_of_blob(number(7, 3)), "a plain number stands where a message belongs"),
        (varint(9 << 3 | 3) * 2000, "too many or too deep"),
        (varint(9 << 3 | 3) + varint(8 << 3 | 4), "group 8 ends where it did not begin"),
        (chunk(2, chunk(1, chunk(1, b"v0"))), "upgrade_net_proto_binary"),
        (b"\x07", "is no number of a field"),
    ],
)
def test_damage_is_told_in_one_sentence(data, words):
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        parse_caffemodel(data, "net.caffemodel")
    assert str(caught.value).startswith("net.caffemodel ")
    assert "\n" not in str(caught.value)


def test_more_tiny_fields_than_any_network_has_are_refused(monkeypatch):
    monkeypatch.setattr(caffe, "MAX_FIELDS", 2_000)
    with pytest.raises(CheckpointError, match="more than 2,000 fields"):
        parse_caffemodel(number(9, 1) * 2_100)


def test_a_missing_and_an_empty_file_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.caffemodel cannot be read"):
        read_caffemodel(tmp_path / "gone.caffemodel")
    (tmp_path / "empty.caffemodel").touch()
    with pytest.raises(CheckpointError, match=r"empty\.caffemodel is empty"):
        read_caffemodel(tmp_path / "empty.caffemodel")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_caffemodel(tmp_path)


def sample_bytes(folder):
    write_caffemodel(folder / "old", [CONV, BN, UNPOOL], dialect="deconvnet", name="n")
    write_caffemodel(folder / "new", [CONV, BN, UNPOOL], dialect="segnet", name="n")
    return (folder / "old").read_bytes() + (folder / "new").read_bytes()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return sample_bytes(tmp_path_factory.mktemp("sample"))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_files_are_read_or_refused_and_nothing_else(sample, data):
    mutant = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if kind == "flip":
            mutant[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del mutant[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            mutant[at:at] = data.draw(st.binary(min_size=1, max_size=12))
        else:
            mutant[at:at] = mutant[at : at + 60]
        if not mutant:
            return
    assert_reads_or_refuses(bytes(mutant))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_read_or_refused_and_nothing_else(data):
    assert_reads_or_refuses(data)


def assert_reads_or_refuses(data):
    try:
        model = parse_caffemodel(data)
    except CheckpointError:
        return
    held = sum(blob.nbytes for layer in model.layers for blob in layer.blobs)
    assert held <= len(data)


# Real files


REAL_FILES = [
    "lenet/ethereon_lenet_iter_10000",
    "mtcnn_kpzhang/det1",
    "mtcnn_kpzhang/det2",
    "v1_cifar10/cifar10_full_iter_70000",
    "v1_cifar10/new_format_cifar10_full_iter_70000",
    "wechat_sr/sr",
]
PROTOTXTS = {
    "ethereon_lenet_iter_10000": "lenet",
    "cifar10_full_iter_70000": "cifar10_full",
    "new_format_cifar10_full_iter_70000": "cifar10_full",
}


def caffe_file(shared_data, name):
    path = shared_data / "caffe" / f"{name}.caffemodel"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the folder caffe of the real data is needed")
    return path


@pytest.mark.parametrize("name", REAL_FILES)
def test_a_real_file_holds_the_layers_of_its_prototxt(shared_data, name):
    path = caffe_file(shared_data, name)
    model = read_caffemodel(path)
    prototxt = path.with_name(PROTOTXTS.get(path.stem, path.stem) + ".prototxt").read_text()
    described = {
        layer_name: layer_type.strip('"').replace("_", "").lower()
        for block in re.split(r"^layers? *\{", prototxt, flags=re.MULTILINE)[1:]
        for layer_name in re.findall(r'^\s*name: *"([^"]+)"', block, re.MULTILINE)[:1]
        for layer_type in re.findall(r"^\s*type: *(\S+)", block, re.MULTILINE)[:1]
    }
    with_weights = {layer.name: layer.type.lower() for layer in model.layers if layer.blobs}
    weightless = {
        "pooling",
        "relu",
        "lrn",
        "softmax",
        "input",
        "concat",
        "crop",
        "eltwise",
        "data",
    }
    needed = {name: kind for name, kind in described.items() if kind not in weightless}
    assert needed
    assert needed.items() <= with_weights.items()


def test_the_older_and_the_newer_cifar10_file_hold_the_same_network(shared_data):
    """The weights differ: they come of two training runs."""
    older, newer = (
        read_caffemodel(caffe_file(shared_data, f"v1_cifar10/{prefix}cifar10_full_iter_70000"))
        for prefix in ("", "new_format_")
    )

    def outline(model):
        return [
            (layer.name, layer.type, layer.bottoms, layer.tops, [b.size for b in layer.blobs])
            for layer in model.layers
        ]

    assert outline(older) == outline(newer)


def test_depthwise_deconvolution_and_prelu_have_their_shapes(shared_data):
    blobs = read_caffemodel(caffe_file(shared_data, "wechat_sr/sr")).blobs()
    assert blobs["upsample/deconv"][0].shape == (32, 1, 3, 3)  # 32 groups: C_in, C_out / group
    blobs = read_caffemodel(caffe_file(shared_data, "mtcnn_kpzhang/det1")).blobs()
    assert blobs["PReLU1"][0].shape == (10,)


@pytest.mark.parametrize("name", REAL_FILES)
def test_a_real_file_cut_short_anywhere_is_refused(shared_data, name):
    data = caffe_file(shared_data, name).read_bytes()
    whole = len(parse_caffemodel(data).layers)
    for end in np.linspace(1, len(data) - 1, 25).astype(int):
        try:
            assert len(parse_caffemodel(data[:end]).layers) < whole
        except CheckpointError:
            continue


# The prototxt


def test_each_dialect_has_its_own_words():
    layers = [CONV, BN, UNPOOL]
    older = deploy_prototxt(layers, size=(8, 8), dialect="deconvnet")
    assert 'layers { name: "bn1_1" type: BN bottom: "conv1_1" top: "conv1_1"' in older
    assert "bn_param { bn_mode: INFERENCE }" in older
    assert (
        "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_h: 8 unpool_w: 8 }"
        in (older)
    )
    segnet = deploy_prototxt(layers, size=(8, 8), dialect="segnet")
    assert 'type: "Upsample" bottom: "conv1_1" bottom: "mask"' in segnet
    assert "upsample_param { scale: 2 upsample_h: 8 upsample_w: 8 }" in segnet
    plain = deploy_prototxt(layers, size=(8, 8), dialect="bvlc")
    assert 'type: "Scale"' in plain
    assert "scale_param { bias_term: true }" in plain
    assert "max_unpool_param { pool_k_h: 2" in plain


def test_an_unknown_dialect_is_refused_with_those_there_are():
    with pytest.raises(CheckpointError, match="there are: deconvnet, segnet, bvlc"):
        caffe.check_dialect("caffe2")
