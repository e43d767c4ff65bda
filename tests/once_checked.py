"""The checks of every annotation of deconvnet while it runs (`--jaxtyping-packages`)."""

from typing import Any

from beartype import beartype


def checked(function):
    """Check by beartype, but no argument twice.

    jaxtyping hands every function over twice: said to return Any, to check its arguments, and
    as it is, to check its result and, once more, the arguments.
    """
    result = function.__annotations__.get("return", Any)
    if result is not Any:
        function.__annotations__ = {"return": result}
    return beartype(function)
