"""Dropout at test time: many answers from one network, and so its doubt."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def sample_dropout(network: nn.Module) -> Iterator[None]:
    """Switch dropout on, and nothing else, within a `with` block; each pass then is a sample.

    Batch norm keeps its running statistics. On leaving, every dropout is as it was.

    Source: Kendall, Badrinarayanan & Cipolla 2015 (Bayesian SegNet), section 3.

    >>> network = nn.Sequential(nn.Dropout(0.5)).eval()
    >>> with sample_dropout(network):
    ...     network[0].training
    True
    >>> network[0].training
    False
    """
    dropouts = [
        module for module in network.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)
    ]
    before = [dropout.training for dropout in dropouts]
    try:
        for dropout in dropouts:
            dropout.train()
        yield
    finally:
        for dropout, was_training in zip(dropouts, before, strict=True):
            dropout.train(was_training)
