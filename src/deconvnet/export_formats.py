"""The kinds of file that a network is exported to: how each is written, and how it is run.

ONNX and OpenVINO get the `Convertible` twin, traced: sizes stay free as long as no line of it
branches on one. torch's newer exporter (dynamo) gives the same graph for ONNX in minutes where
tracing takes seconds, for it proves every size that could occur; so only the format `torch`
goes through it.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deconvnet.engines.openvino import Convertible
from deconvnet.errors import UserError
from deconvnet.standalone import Standalone

OPSET = 17
"""Of ONNX."""

Runner = Callable[[Tensor], list[Tensor]]
"""From pictures (N, C, H, W) in 0 to 1 to logits, then what else was asked for."""


class Format(NamedTuple):
    """A kind of file."""

    files: tuple[str, ...]
    """The first is the one to open."""
    libraries: tuple[str, ...]
    extra: str
    engine: str
    """What runs it, and from which version on."""
    write: Callable[[Standalone, Mapping[str, str], Path], None]
    open: Callable[[Path], Runner]
    open_inside: Callable[[Path], Runner]
    """The same, with the corners of each unpooling's switches after the logits."""
    use: str
    """A script that runs the file without this library."""


def _example() -> Tensor:
    """Pictures of no special size, so that nothing is taken to be always so."""
    return torch.zeros(2, 3, 577, 641)


def _free_axes(network: Standalone) -> dict[int, str]:
    """Networks for grey pictures take RGB too."""
    names = {0: "N", 2: "H", 3: "W"}
    return names | {1: "C"} if network.one_channel else names


# ONNX


def _write_onnx(network: Standalone, about: Mapping[str, str], folder: Path) -> None:
    import onnx

    path = folder / "model.onnx"
    free = {0: "N", 2: "H", 3: "W"}
    with _quietly():
        torch.onnx.export(
            Convertible(network).float(),
            (_example(),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": _free_axes(network), "logits": free},
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _onnx_runner(model: str | bytes) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda image: [
        torch.from_numpy(output) for output in session.run(None, {"image": image.numpy()})
    ]


def _onnx_runner_inside(path: Path) -> Runner:
    import onnx

    model = onnx.load(path)
    compared = (node.input[0] for node in model.graph.node if node.op_type == "Equal")
    for name in _in_fours(compared):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return _onnx_runner(model.SerializeToString())


def _in_fours(names: Iterator[str]) -> list[str]:
    """The maps that unpooling compares with each of the four corners."""
    return [name for name, count in Counter(names).items() if count == 4]


# OpenVINO


def _write_openvino(network: Standalone, about: Mapping[str, str], folder: Path) -> None:
    import openvino

    with _quietly(), torch.no_grad():
        model = openvino.convert_model(Convertible(network).float(), example_input=_example())
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"logits"})
    for name, value in about.items():
        model.set_rt_info(value, ["deconvnet", name])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _openvino_runner(model: Any) -> Runner:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda image: [
        torch.from_numpy(output.copy()) for output in compiled(image.numpy()).values()
    ]


def _openvino_runner_inside(path: Path) -> Runner:
    import openvino

    model = openvino.Core().read_model(path)
    equals = [node for node in model.get_ordered_ops() if node.get_type_name() == "Equal"]
    equals.sort(key=lambda node: str(node.get_friendly_name()), reverse=True)  # unpool5 first
    compared = {node.input_value(0).get_node().get_friendly_name(): node for node in equals}
    names = (node.input_value(0).get_node().get_friendly_name() for node in equals)
    model.add_outputs([compared[name].input_value(0) for name in _in_fours(names)])
    return _openvino_runner(model)


# torch.export


def _write_torch(network: Standalone, about: Mapping[str, str], folder: Path) -> None:
    free = dict.fromkeys(_free_axes(network), torch.export.Dim.DYNAMIC)
    with _quietly(), torch.no_grad(), _no_size_is_special():
        program = torch.export.export(
            network.float(), (_example(),), dynamic_shapes=(free,), strict=False
        )
    torch.export.save(program, folder / "model.pt2", extra_files=dict(about))


def _no_size_is_special() -> Any:
    """Else a picture of one pixel, or one window of fc6, would need a program of its own."""
    try:
        from torch.fx.experimental import _config
    except ImportError:  # older: such sizes are refused by the exported program
        return nullcontext()
    has_it = hasattr(_config, "backed_size_oblivious")
    config: Any = _config  # its stubs do not know that it can be patched
    return config.patch(backed_size_oblivious=True) if has_it else nullcontext()


def _torch_runner(path: Path) -> Runner:
    module = torch.export.load(path).module()

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return [module(image)]

    return run


def _torch_runner_inside(path: Path) -> Runner:
    module = torch.export.load(path).module()

    def run(image: Tensor) -> list[Tensor]:
        watching = _Watching(module)
        with torch.no_grad():
            logits = watching.run(image)
        return [logits, *reversed(watching.corners)]

    return run


class _Watching(torch.fx.Interpreter):
    """Runs a program step by step, and notes the switches of its poolings."""

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.corners: list[Tensor] = []

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super().call_function(target, args, kwargs)
        if target is torch.ops.aten.max_pool2d_with_indices.default:
            self.corners.append(as_corners(result[1], args[0].shape[3]))
        return result


def as_corners(positions: Tensor, width: int) -> Tensor:
    """Where in its window each maximum was: 0 and 1 above, 2 and 3 below.

    >>> as_corners(torch.tensor([0, 3, 6, 9]), width=5).tolist()
    [0, 1, 3, 2]
    """
    return positions // width % 2 * 2 + positions % width % 2


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporters' warnings; what they cannot convert is said in our words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:  # of many kinds, none of them our own
            raise UserError(
                "this network cannot be exported "
                f"({' '.join(str(error).split())[:200]}); take another format."
            ) from error


USE = '''"""Segment a picture: python use.py PICTURE. Needs numpy, Pillow and @library alone."""

import json
import sys

import numpy as np
@imports


def main(picture, model="@file", out="mask.png"):
@open
    opened = PIL.ImageOps.exif_transpose(PIL.Image.open(picture))  # upright
    if opened.mode[0] in "IF":
        sys.exit(f"{picture} has more than 8 bits a value; save it with 8.")
    if opened.has_transparency_data:
        white = PIL.Image.new("RGBA", opened.size, "white")
        opened = PIL.Image.alpha_composite(white, opened.convert("RGBA"))
    image = np.asarray(opened.convert("RGB"), np.float32) / 255
    image = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
@run
    label_map = logits[0].argmax(0).astype(np.uint8)
    for index, name in enumerate(json.loads(about["classes"])):
        print(f"{name:<16} {100 * (label_map == index).mean():5.1f} %")
    mask = PIL.Image.fromarray(label_map)
    mask.putpalette([level for color in json.loads(about["colors"]) for level in color])
    mask.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''
"""The script beside an exported network; what differs between engines is marked with @."""

USE_ONNX = {
    "library": "onnxruntime",
    "imports": "import onnxruntime\nimport PIL.Image\nimport PIL.ImageOps",
    "file": "model.onnx",
    "open": """\
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map""",
    "run": """\
    (logits,) = session.run(["logits"], {"image": image})""",
}
USE_OPENVINO = {
    "library": "openvino",
    "imports": "import openvino\nimport PIL.Image\nimport PIL.ImageOps",
    "file": "model.xml",
    "open": """\
    network = openvino.Core().read_model(model)
    names = ("classes", "colors")
    about = {name: network.get_rt_info(["deconvnet", name]).astype(str) for name in names}
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # bf16 would turn switches over
    compiled = openvino.Core().compile_model(network, "CPU", settings)""",
    "run": """\
    logits = compiled(image)["logits"]""",
}
USE_TORCH = {
    "library": "torch",
    "imports": "import PIL.Image\nimport PIL.ImageOps\nimport torch",
    "file": "model.pt2",
    "open": """\
    about = {"classes": "", "colors": ""}  # load fills them
    network = torch.export.load(model, extra_files=about).module()""",
    "run": """\
    logits = network(torch.from_numpy(image)).detach().numpy()""",
}


def _use(parts: Mapping[str, str]) -> str:
    text = USE
    for name, value in parts.items():
        text = text.replace(f"@{name}", value)
    return text


FORMATS: dict[str, Format] = {
    "onnx": Format(
        ("model.onnx",),
        ("onnx", "onnxruntime"),
        "export",
        f"ONNX Runtime 1.20 or newer (opset {OPSET})",
        _write_onnx,
        lambda path: _onnx_runner(str(path)),
        _onnx_runner_inside,
        _use(USE_ONNX),
    ),
    "openvino": Format(
        ("model.xml", "model.bin"),
        ("openvino",),
        "openvino",
        "OpenVINO 2025.0 or newer",
        _write_openvino,
        _openvino_runner,
        _openvino_runner_inside,
        _use(USE_OPENVINO),
    ),
    "torch": Format(
        ("model.pt2",),
        (),
        "export",
        f"torch {torch.__version__.partition('+')[0]} or newer (torch.export)",
        _write_torch,
        _torch_runner,
        _torch_runner_inside,
        _use(USE_TORCH),
    ),
}
"""What a network can be exported to, by name."""
