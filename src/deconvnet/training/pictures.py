"""The endless row of training pictures, and the loss on them."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.utils.data import DataLoader

from deconvnet import losses
from deconvnet.checkpoint import Config
from deconvnet.data import Dataset, Sample
from deconvnet.data.augment import augment
from deconvnet.labels import IGNORED
from deconvnet.recipe import Recipe
from deconvnet.shapes import InstanceMap


@dataclass(frozen=True)
class TrainingPictures(torch.utils.data.Dataset[tuple[Tensor, ...]]):
    """The endless row of augmented training pictures; its number alone decides each."""

    pictures: Dataset
    recipe: Recipe
    config: Config

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        recipe = self.recipe
        sample = self.pictures[self._index_of(number)]
        low, high = recipe.scale_range
        sample = augment(
            sample,
            np.random.default_rng([recipe.seed, number]),
            crop_size=recipe.crop_size,
            scale=(low * recipe.input_scale, high * recipe.input_scale),
            flip=recipe.flip,
            color=recipe.color,
            elastic=recipe.elastic,
        )
        image = torch.from_numpy(np.ascontiguousarray(sample.image)).permute(2, 0, 1) / 255.0
        mean, std = torch.tensor(self.config.mean), torch.tensor(self.config.std)
        image = (image - mean[:, None, None]) / std[:, None, None]
        labels = torch.from_numpy(sample.label_map.astype(np.int64))
        if not recipe.border_weight:
            return image, labels
        border = losses.border_weights(
            _objects(sample, self.pictures.classes.background), weight=recipe.border_weight
        )
        return image, labels, torch.from_numpy(1 + border)

    def name_of(self, number: int) -> str:
        """The name of the picture at a place in the row."""
        return self.pictures.names[self._index_of(number)]

    def _index_of(self, number: int) -> int:
        epoch, place = divmod(number, len(self.pictures))
        return int(_order(self.recipe.seed, epoch, len(self.pictures))[place])


def batches_from(
    pictures: TrainingPictures, step: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[list[Tensor]]:
    """The batches of one process from an optimiser step on; the step alone decides each.

    The processes of a distributed run take turns, so that together they see what one process
    with as many times the batch would.
    """
    recipe = pictures.recipe
    passes = range(step * recipe.accumulate, recipe.steps * recipe.accumulate)
    batches: Sequence[Any] = [  # ranges, as the lists of a long run would fill the memory
        numbers_of(recipe, one_pass, rank=rank, world_size=world_size) for one_pass in passes
    ]
    return iter(DataLoader(pictures, batch_sampler=batches, num_workers=recipe.workers))


def numbers_of(recipe: Recipe, one_pass: int, *, rank: int = 0, world_size: int = 1) -> range:
    """The places in the row of pictures that one process sees in one pass.

    >>> numbers_of(Recipe(batch_size=2), 1, rank=1, world_size=2)
    range(6, 8)
    """
    start = (one_pass * world_size + rank) * recipe.batch_size
    return range(start, start + recipe.batch_size)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of the pictures in one epoch."""
    return np.random.default_rng([seed, epoch, count]).permutation(count)


def _objects(sample: Sample, background: int | None) -> InstanceMap:
    """The instance map, or else the connected components of what is not background."""
    if sample.instance_map is not None:
        return sample.instance_map
    counted = (sample.label_map != IGNORED) & (sample.label_map != (background or 0))
    return ndimage.label(counted, structure=np.ones((3, 3)))[0].astype(np.int32)
