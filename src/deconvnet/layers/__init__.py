"""What networks are made of: pooling with switches, and the ways back up."""

from deconvnet.layers.matrix import convolution_matrix
from deconvnet.layers.unpooling import UNPOOLING_KINDS, Switches, Unpooling, pool, unpool

__all__ = ["UNPOOLING_KINDS", "Switches", "Unpooling", "convolution_matrix", "pool", "unpool"]
