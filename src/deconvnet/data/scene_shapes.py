"""Outlines and patterns of the things in drawn pictures, as functions of the plane.

Every function takes u and v, coordinates turned with the object and measured in its radius,
and traits, four numbers in 0 to 1 that make individuals differ. Outlines give the signed
distance to the edge, negative inside, at least near it; patterns give a number that is positive
where the second colour goes.
"""

import math
from collections.abc import Callable

import numpy as np

from deconvnet.shapes import Float32

Plane = Float32[np.ndarray, "h w"]
Traits = tuple[float, ...]
Function = Callable[[Plane, Plane, Traits], Plane]

_TIP_COSINE, _TIP_SINE = math.cos(math.pi / 5), math.sin(math.pi / 5)


def disc(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A ball or cookie: every individual the same."""
    return _radius(u, v) - 1


def brick(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A rectangle with rounded corners, more or less long."""
    height, corner = 0.36 + 0.3 * traits[0], 0.04 + 0.08 * traits[1]
    across = np.abs(u) - (0.87 - corner)
    along = np.abs(v) - (height - corner)
    inside = np.minimum(np.maximum(across, along), 0)
    return _radius(np.maximum(across, 0), np.maximum(along, 0)) + inside - corner


def leaf(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Two arcs that meet in points, bent, with a stem."""
    width, bend = 0.3 + 0.2 * traits[0], 0.5 * (traits[1] - 0.5)
    side = np.abs(v - bend * (u * u - 0.4))
    along = (u - 0.14) * (1 / 0.86)
    radius = (1 + width * width) / (2 * width)
    blade = (_radius(along, side + (radius - width)) - radius) * 0.86
    stem = np.maximum(side - 0.035, np.abs(u + 0.8) - 0.2)
    return np.minimum(blade, stem)


def star(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Five arms, slim or stout."""
    inner = 0.4 + 0.16 * traits[0]
    x, y = np.abs(u), v
    for side in (1, -1):  # fold the plane until half an arm is left
        beyond = np.maximum(_TIP_COSINE * side * x - _TIP_SINE * y, 0) * 2
        x, y = x - beyond * (_TIP_COSINE * side), y + beyond * _TIP_SINE
    x = np.abs(x)  # the tip lies at (0, 1), the notch at inner * (sine, cosine)
    across, along = inner * _TIP_SINE, inner * _TIP_COSINE - 1
    length = math.hypot(across, along)
    return x * (-along / length) + (y - 1) * (across / length)


def ring(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A ring that shows the ground in its middle."""
    half = 0.13 + 0.1 * traits[0]
    return np.abs(_radius(u, v) - (1 - half)) - half


def fish(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A body, a forked tail and a fin on the back."""
    depth = 0.3 + 0.14 * traits[0]
    body = _ellipse(u - 0.28, v, 0.7, depth)
    side = np.abs(v)
    tail = np.maximum(side * 0.8 + (u + 0.28) * 0.6, -0.95 - u - 0.35 * side)
    fin = _ellipse(u - 0.12, v + depth * 0.85, 0.3, 0.2)
    return np.minimum(np.minimum(body, tail), fin)


def pebble(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A stone, never round: part of the ground."""
    x = u + 0.12 * np.sin(4 * v + 6 * traits[0])
    y = v * (1.5 + traits[2]) + 0.2 * np.sin(3 * u + 6 * traits[1])
    return (_radius(x, y) - 0.84) * 0.6


def stick(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A long thin twig: part of the ground."""
    bent = v - 0.3 * (traits[0] - 0.5) * np.sin(2.5 * u)
    return np.maximum(np.abs(bent) - (0.03 + 0.04 * traits[1]), np.abs(u) - 0.98)


def shard(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A triangle, as pointed as a star: part of the ground."""
    slim = 0.45 + 0.35 * traits[0]
    steep = math.hypot(1, slim / 1.4)
    return np.maximum((np.abs(v) - slim * (0.8 - u) / 1.4) / steep, -0.6 - u)


def crescent(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A moon, as curved as a ring: part of the ground."""
    return np.maximum(_radius(u, v) - 0.95, 0.75 - _radius(u - 0.35 - 0.3 * traits[0], v))


def panels(u: Plane, v: Plane, traits: Traits) -> Plane:
    """The panels of a beach ball, seen from a little above."""
    x, y = u + 0.25, v + 0.3
    radius = _radius(x, y)
    return np.minimum(_winding(x, y, radius, 3 if traits[2] < 0.5 else 4), radius - 0.14)


def chips(u: Plane, v: Plane, traits: Traits) -> Plane:
    """The chips of a cookie, in no strict order."""
    grain = 8 + 5 * traits[2]
    across = np.cos(grain * u + 1.6 * np.sin(2.3 * v + 6 * traits[1]))
    along = np.cos(grain * v + 1.6 * np.sin(1.9 * u + 6 * traits[3]))
    return (across + along - 1) * 0.15


def courses(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Courses of small bricks; the second colour is the mortar's."""
    rows = 3 + int(3 * traits[2])
    row = v * (rows / 1.1)
    column = u * (rows / 2.2) + 0.5 * np.mod(np.floor(row), 2)
    to_joint = np.minimum(np.abs(row - np.rint(row)), 2 * np.abs(column - np.rint(column)))
    return (0.1 - to_joint) * (1.1 / rows)


def veins(u: Plane, v: Plane, traits: Traits) -> Plane:
    """The midrib and side veins of a leaf, along its bend."""
    side = np.abs(v - 0.5 * (traits[1] - 0.5) * (u * u - 0.4))
    slanted = (u - 0.9 * side) * (5 + 3 * traits[2])
    lines = 0.09 - np.abs(slanted - np.rint(slanted))
    return np.maximum(0.03 - side, lines * 0.16)


def facets(u: Plane, v: Plane, traits: Traits) -> Plane:
    """The lit and unlit halves of a star's arms."""
    return _winding(v, u, _radius(u, v), 5) * 0.2  # angles from a tip


def sectors(u: Plane, v: Plane, traits: Traits) -> Plane:
    """The bands of a lifebuoy."""
    return _winding(u, v, _radius(u, v), 4 + int(3 * traits[2])) * 0.2


def bars(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Bars across a fish."""
    return np.sin((9 + 6 * traits[2]) * u + 1.5 * v * v) * 0.09


def plain(u: Plane, v: Plane, traits: Traits) -> Plane:
    """One colour."""
    return np.full(np.broadcast_shapes(u.shape, v.shape), -1, np.float32)


def stripes(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Straight stripes."""
    return np.sin((6 + 9 * traits[2]) * v) * 0.1


def dots(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Dots in rows."""
    grain = 8 + 8 * traits[2]
    return (np.cos(grain * u) + np.cos(grain * v) - 0.9) * 0.1


def checks(u: Plane, v: Plane, traits: Traits) -> Plane:
    """A chessboard."""
    grain = 5 + 5 * traits[2]
    return np.sin(grain * u) * np.sin(grain * v) * 0.12


def waves(u: Plane, v: Plane, traits: Traits) -> Plane:
    """Wavy lines."""
    return np.sin((8 + 6 * traits[2]) * v + 2 * np.sin(3 * u + 6 * traits[3])) * 0.09


def _radius(u: Plane, v: Plane) -> Plane:
    return np.sqrt(u * u + v * v)  # four times as fast as hypot, and nothing overflows here


def _winding(u: Plane, v: Plane, radius: Plane, times: int) -> Plane:
    """Radius * sin(times * angle), by powers of a complex number instead of angles."""
    turned = np.empty(u.shape, np.complex64)
    turned.real, turned.imag = u, v
    turned /= np.maximum(radius, 1e-6)
    result = turned
    for _ in range(times - 1):
        result = result * turned
    return result.imag * radius


def _ellipse(u: Plane, v: Plane, a: float, b: float) -> Plane:
    return (_radius(u / a, v / b) - 1) * min(a, b)


OUTLINES: tuple[Function, ...] = (disc, disc, brick, leaf, star, ring, fish)
"""Of the classes 1, 2, ... of SCENES."""

OWN_PATTERNS: tuple[Function, ...] = (panels, chips, courses, veins, facets, sectors, bars)
"""What each of these usually wears."""

PATTERNS: tuple[Function, ...] = (plain, stripes, dots, checks, waves)
"""What anything may wear, and the ground too."""

CLUTTER: tuple[Function, ...] = (pebble, pebble, shard, crescent, stick)
"""Outlines of what lies about and is background."""
