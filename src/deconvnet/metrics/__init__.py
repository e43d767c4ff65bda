"""How good a segmentation is: scores on plain arrays, for anyone's network.

Everything here takes what `numpy.asarray` takes (arrays, lists, tensors on the CPU), returns
NumPy, and needs no torch. Accumulators are values: `add` returns a new one, `+` joins two.
"""

from deconvnet.metrics.boundary import boundary_f1
from deconvnet.metrics.calibration import Calibration
from deconvnet.metrics.cells import CellScores, cell_scores
from deconvnet.metrics.confusion import ConfusionMatrix
from deconvnet.metrics.object_size import SizeBands
from deconvnet.metrics.scores import Scores

__all__ = [
    "Calibration",
    "CellScores",
    "ConfusionMatrix",
    "Scores",
    "SizeBands",
    "boundary_f1",
    "cell_scores",
]
