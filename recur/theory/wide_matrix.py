"""A random matrix of infinite width, defined only by its products with vectors.

Given x, the entries of x @ W for a Gaussian W are Gaussian and independent across units, with
covariance sigma^2 <x_i, x_j> / n over the leading axes of x. So a cell's own functions run on a
population of units without any matrix, as long as they use matrices only in products.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from jax import Array


class NoTheory(ValueError):
    """A cell does something that cannot be done at infinite width."""


class Wide:
    """Takes the place of a parameter matrix: it can do only `x @ wide`."""

    __array_ufunc__ = None  # so that NumPy's x @ wide defers to us
    ndim = 2

    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any, product: Callable):
        self.name, self.shape, self.dtype, self._product = name, shape, dtype, product

    def __rmatmul__(self, x: Array) -> Array:
        """x @ W."""
        return self._product(x)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse everything else, with the reason."""
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f".{name}")

    def _refuse(self, what: str) -> NoReturn:
        raise NoTheory(
            f"the cell does more with its matrix {self.name} than multiply a vector by it "
            f"({what}): at infinite width a matrix is known only by the products x @ {self.name}, "
            "so this cell has no theory here. Simulate it (scan.tied, scan.untied)."
        )


def _refusal(operator: str) -> Callable:
    def refuse(self: Wide, *_: Any) -> NoReturn:
        self._refuse(operator)

    return refuse


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Wide, f"__{_name}__", _refusal(_name))
    setattr(Wide, f"__r{_name}__", _refusal(_name))
for _name in ("neg", "abs", "matmul", "getitem", "iter"):
    setattr(Wide, f"__{_name}__", _refusal(_name))
