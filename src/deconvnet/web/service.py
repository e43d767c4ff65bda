"""Networks, pictures and proposals behind the routes."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deconvnet import crf as dense_crf
from deconvnet.data.sample import Sample
from deconvnet.data.scenes import is_scenes, open_scenes
from deconvnet.instances import choose_windows, grow
from deconvnet.predict import Predictor, Segmentation
from deconvnet.shapes import Float32, Image
from deconvnet.web import answers
from deconvnet.web.inside import Observatory
from deconvnet.web.limits import Limits
from deconvnet.web.problems import WebError
from deconvnet.web.requests import Asked, unknown
from deconvnet.web.work import Stop, Workroom, stoppable

EXAMPLES = 6
"""Drawn pictures to start from."""

EXAMPLE_SIZE = (300, 400)
"""Their height and width in pixels."""


@dataclass
class Served:
    """A network of this server."""

    name: str
    predictor: Predictor = field(repr=False)
    load_plain: Callable[[], Predictor] = field(repr=False)
    """Loads it as it was trained, for looking inside."""
    parameters: int = 0
    """Of the network as it was trained; engines merge some."""
    _plain: Predictor | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def plain(self) -> Predictor:
        """The network as it was trained; loaded when first wanted."""
        with self._lock:
            if self._plain is None:
                self._plain = self.load_plain()
            return self._plain

    def answer(self) -> answers.ModelAnswer:
        """What a client must know of it."""
        config = self.predictor.config
        data = config.recipe.get("data")
        return answers.ModelAnswer(
            name=self.name,
            network=config.model,
            parameters=self.parameters,
            data=Path(str(data)).name.partition(":")[0] if data else None,
            background=config.classes.background,
            classes=answers.classes_answer(config.classes),
        )


class Service:
    """What the routes share."""

    def __init__(self, served: Sequence[Served], limits: Limits) -> None:
        self.served: Mapping[str, Served] = {model.name: model for model in served}
        self.limits = limits
        self.room = Workroom(limits)
        self.observatory = Observatory(limits)
        self._examples: dict[int, Sample] = {}

    def model(self, name: str | None) -> Served:
        """The network of that name; without one, the first.

        Raises:
            WebError: If there is none.
        """
        if not name:
            return next(iter(self.served.values()))
        if name not in self.served:
            raise unknown("model", name, list(self.served))
        return self.served[name]

    def two_models(self, names: str) -> tuple[Served, Served]:
        """The two networks named with a comma between.

        Raises:
            WebError: If they are not two, or there is none of a name.
        """
        given = [name.strip() for name in names.split(",") if name.strip()]
        if len(given) != 2:
            raise WebError(
                422,
                f"The field 'models' names {len(given)} networks; give two of "
                f"{', '.join(self.served)}, with a comma between.",
            )
        return self.model(given[0]), self.model(given[1])

    def segment(
        self, served: Served, image: Image, stop: Stop, *, proposals: int, crf: bool
    ) -> Segmentation:
        """What the command line's `predict` does."""
        stop.check()
        return stoppable(served.predictor, stop)(image, proposals=proposals, crf=crf)

    def example(self, index: int) -> Sample:
        """A drawn picture, such as the first network was trained on if it was on drawn ones."""
        if index not in self._examples:
            data = str(self.model(None).predictor.config.recipe.get("data", ""))
            settings = data if is_scenes(data) else "scenes"
            drawn = open_scenes(settings, "test", count=EXAMPLES, size=EXAMPLE_SIZE, seed=7)
            self._examples[index] = drawn[index]
        return self._examples[index]

    def grow(
        self,
        served: Served,
        asked: Asked,
        stop: Stop,
        give: Callable[[tuple[str, dict[str, Any]]], None],
        *,
        count: int,
        crf: bool,
    ) -> None:
        """Give the events of a map that grows proposal by proposal."""
        image = asked.image(self.limits, scores=True)
        windows = choose_windows(image, count)
        give(("begin", {"total": len(windows)}))
        scores = np.zeros((len(served.predictor.classes), *image.shape[:2]), np.float32)
        shown = 0
        for growth in grow(stoppable(served.predictor, stop), image, windows, together=1):
            scores = growth.scores
            partly = _decided(image, scores, served.predictor)
            answer = answers.segment_answer(served.name, partly)
            give(
                (
                    "growth",
                    {
                        "done": growth.done,
                        "total": growth.total,
                        "boxes": answers.boxes_answer(growth.boxes[shown:]),
                        "classes": [known.model_dump() for known in answer.classes],
                        "mask_png": answer.mask_png,
                    },
                )
            )
            shown = growth.done
        stop.check()
        whole = _decided(image, scores, served.predictor, crf=crf)
        answer = answers.segment_answer(served.name, whole, confidence=True)
        give(("result", answer.model_dump()))


def _decided(
    image: Image,
    scores: Float32[np.ndarray, "k h w"],
    predictor: Predictor,
    *,
    crf: bool = False,
) -> Segmentation:
    """The segmentation that scores make, as Predictor's call makes it."""
    probabilities = torch.from_numpy(scores).softmax(0).numpy()
    if crf:
        probabilities = dense_crf.refine(image, probabilities)
    label_map = probabilities.argmax(0).astype(np.uint8)
    return Segmentation(image, label_map, predictor.classes, probabilities)
