"""The bridge to Flax, in both directions; the only folder that imports flax.

    cells    Flax cells in recur, and recur cells in Flax
    models   models around a recurrence, as nnx modules
    weights  trained weights of Flax and PyTorch

All three are available after `import recur`.
"""

from recur.flax import cells, models, weights

__all__ = ["cells", "models", "weights"]
