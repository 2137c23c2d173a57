"""The bridge to Flax, both ways; the only folder that imports flax.

    cells    cells of Flax here, and cells from here in Flax
    models   models around a recurrence, as nnx modules
    weights  trained weights of Flax and PyTorch

All three are available after `import recur`.
"""

from recur.flax import cells, models, weights

__all__ = ["cells", "models", "weights"]
