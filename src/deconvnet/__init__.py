"""Semantic segmentation with learned deconvolution.

>>> import deconvnet
>>> network = deconvnet.build_model("deconvnet", num_classes=21, width=1 / 16)

Everything is imported when first used, so that `import deconvnet` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deconvnet import crf, layers, metrics, proposals
    from deconvnet.checkpoint import load_checkpoint, save_checkpoint
    from deconvnet.data import open_dataset
    from deconvnet.engines import accelerate
    from deconvnet.errors import UserError
    from deconvnet.labels import Classes
    from deconvnet.models import MODELS, build_model
    from deconvnet.predict import Predictor, Segmentation, load
    from deconvnet.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "Classes",
    "Predictor",
    "Recipe",
    "Segmentation",
    "UserError",
    "accelerate",
    "build_model",
    "crf",
    "layers",
    "load",
    "load_checkpoint",
    "metrics",
    "open_dataset",
    "proposals",
    "save_checkpoint",
]

_HOMES = {
    "MODELS": "models",
    "Classes": "labels",
    "Predictor": "predict",
    "Recipe": "recipe",
    "Segmentation": "predict",
    "UserError": "errors",
    "accelerate": "engines",
    "build_model": "models",
    "load": "predict",
    "load_checkpoint": "checkpoint",
    "open_dataset": "data",
    "save_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"deconvnet.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"deconvnet.{name}")
    raise AttributeError(f"module 'deconvnet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
