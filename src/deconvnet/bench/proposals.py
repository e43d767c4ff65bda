"""Proposals: time and recall of every way to propose boxes."""

import statistics
from functools import partial

import numpy as np

from deconvnet import proposals
from deconvnet.bench.report import Row, Table
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import interleaved
from deconvnet.data import open_dataset
from deconvnet.errors import MissingExtraError, RecipeError


def bench_proposals(settings: Settings) -> list[Table]:
    """Time and recall of every way to propose boxes, on pictures with instances."""
    dataset = open_dataset(settings.data, "val")
    samples = [dataset[index] for index in range(min(8, len(dataset)))]
    samples = [s for s in samples if s.instance_map is not None and s.instance_map.any()]
    if not samples:
        raise RecipeError(
            f"{settings.data} has no instance maps, so recall cannot be measured; name another "
            "data set, or scenes."
        )
    truths = [proposals.boxes_of(np.asarray(sample.instance_map))[0] for sample in samples]
    rows: list[Row] = []
    left_out = []
    for method in proposals.METHODS:
        try:
            timing = interleaved(
                {
                    str(i): partial(proposals.propose, sample.image, method)
                    for i, sample in enumerate(samples)
                },
                rounds=1,
            )
        except MissingExtraError as error:
            left_out.append(str(error))
            continue
        median = statistics.median(found.median for found in timing.values())
        boxes = [proposals.propose(sample.image, method)[0] for sample in samples]
        recalls = [
            np.mean(
                [
                    proposals.recall(b[:count], t, 0.5)
                    for b, t in zip(boxes, truths, strict=True)
                ]
            )
            for count in (50, 500, 2000)
        ]
        rows.append(
            (
                method,
                round(1e3 * median, 1),
                *(round(100 * float(share), 1) for share in recalls),
            )
        )
    return [
        Table(
            f"Proposals: {len(samples)} pictures of {settings.data}",
            ("method", "ms", "recall of 50 %", "of 500", "of 2000"),
            tuple(rows),
            "\n".join(
                ["Recall: share of the objects' boxes met with an IoU of 0.5.", *left_out]
            ),
            kind="proposals",
        )
    ]
