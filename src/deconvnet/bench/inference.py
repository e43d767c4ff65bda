"""Inference: each network by every engine and every peer, and what rounding turned over."""

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from deconvnet.bench.report import Row, Table
from deconvnet.bench.samples import network_of, pictures
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import interleaved
from deconvnet.engines import ENGINES, accelerate
from deconvnet.engines.openvino import Convertible
from deconvnet.errors import UserError
from deconvnet.layers import Switches

Runner = Callable[[Tensor], Tensor]


def bench_inference(settings: Settings) -> list[Table]:
    """Each network as it was trained, by every engine, and by every peer."""
    rows: list[Row] = []
    left_out = []
    images = pictures(8, settings.size)
    for name in settings.networks:
        plain = network_of(name, settings.width)
        runners, failed = _runners(plain, settings.size)
        left_out += [f"{name}: {reason}" for reason in failed]
        expected = runners["plain"](images).argmax(1)
        flips = flipped_switches(plain, runners, images[:1])
        agreement = {
            who: float((call(images).argmax(1) == expected).float().mean())
            for who, call in runners.items()
        }
        timings = [
            interleaved({who: partial(call, images[:count]) for who, call in runners.items()})
            for count in (1, 8)
        ]
        for who in runners:
            single, batch = (timing[who] for timing in timings)
            rows.append(
                (
                    name,
                    who,
                    *single.milliseconds(),
                    *batch.milliseconds(8),
                    round(timings[1]["plain"].median / batch.median, 2),
                    round(100 * agreement[who], 3),
                    flips.get(who),
                )
            )
    return [
        Table(
            f"Inference: ms a picture of {settings.size} pixels, width {settings.width:g}",
            tuple("network,by,one,low,high,of 8,low 8,high 8,x plain,argmax %,ppm".split(",")),
            tuple(rows),
            "\n".join(
                [
                    "Random weights. one, of 8: batches. argmax: agreement with plain. ppm: "
                    "switches turned over by rounding, against float64, in a million.",
                    *left_out,
                ]
            ),
            kind="inference",
        )
    ]


def _runners(network: nn.Module, size: int) -> tuple[dict[str, Runner], list[str]]:
    """The ways to run this network here, and why others are missing."""
    runners: dict[str, Runner] = {"plain": network}
    failed = []
    for engine in ENGINES:
        try:
            runners[engine] = accelerate(network, engine)
        except UserError as error:
            failed.append(f"{engine}: {error}")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        for peer, load in (("onnxruntime", _onnxruntime), ("opencv", _opencv)):
            try:
                if not model.exists():
                    _write_onnx(network, size, model)
                call = load(model)
                for count in (8, 1):
                    call(torch.zeros(count, 3, size, size))
                runners[peer] = call
            except Exception as error:  # a peer that fails is left out, and said to be
                failed.append(f"{peer}: {' '.join(str(error).split())[:100]}")
    return runners, failed


def _write_onnx(network: nn.Module, size: int, place: Path) -> None:
    """By the exporter that needs no further library; the batch size stays free."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older exporter
        torch.onnx.export(
            Convertible(network),
            (torch.zeros(1, 3, size, size),),
            place,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
            opset_version=17,
        )


def _onnxruntime(model: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def _opencv(model: Path) -> Runner:
    import cv2

    cv2.utils.logging.setLogLevel(0)  # it reports failures twice
    cv2.setNumThreads(torch.get_num_threads())
    loaded = cv2.dnn.readNetFromONNX(str(model))

    def call(images: Tensor) -> Tensor:
        loaded.setInput(images.numpy())
        return torch.from_numpy(loaded.forward())

    return call


def flipped_switches(
    network: nn.Module, runners: Mapping[str, Runner], images: Tensor
) -> dict[str, float]:
    """In a million, for the runners in torch: the switches that rounding has turned over."""
    exact = _corners(copy.deepcopy(network).double(), images.double())
    flips = {}
    for who, runner in runners.items():
        found = _corners(runner, images) if isinstance(runner, nn.Module) else []
        if exact and len(found) == len(exact):  # the peers do not tell
            unlike = sum(int((a != b).sum()) for a, b in zip(exact, found, strict=True))
            flips[who] = round(1e6 * unlike / sum(a.numel() for a in exact), 1)
    return flips


def _corners(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The switches of every unpooling, as corners of their windows: 0 1 above, 2 3 below."""
    corners: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, Switches]) -> None:
        positions, size = given[1]
        if positions.dtype == torch.uint8:  # the engine `native` has corners alone
            corners.append(positions.long())
        else:
            corners.append(positions // size[1] % 2 * 2 + positions % size[1] % 2)

    hooks = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if type(module).__name__.endswith("Unpooling")
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return corners
