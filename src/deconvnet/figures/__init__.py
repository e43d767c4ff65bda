"""The figures of the papers, drawn from our own networks; each function gives a Figure.

>>> from deconvnet import figures
>>> figures.save(figures.unpooling(), "unpooling.svg")            # doctest: +SKIP

Figure 4, `layers`, is drawn by `deconvnet.explain`.
"""

from deconvnet.figures.comparison_sheet import comparison
from deconvnet.figures.doubt_maps import doubt
from deconvnet.figures.failure_pictures import failures
from deconvnet.figures.growing_proposals import proposals
from deconvnet.figures.network_drawing import architecture
from deconvnet.figures.number_planes import deconvolution, unpooling
from deconvnet.figures.probability_maps import probabilities
from deconvnet.figures.size_curves import sizes
from deconvnet.figures.style import save

__all__ = [
    "architecture",
    "comparison",
    "deconvolution",
    "doubt",
    "failures",
    "probabilities",
    "proposals",
    "save",
    "sizes",
    "unpooling",
]
