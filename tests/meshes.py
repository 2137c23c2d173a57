"""Sequences shared by four devices against one: `python -m tests.meshes Explicit 4 lstm`.

Arguments: the kind of the axes, their sizes (4 or 2,2), cells, and "set" for `jax.set_mesh`.
"""

import contextlib
import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from recur import Prior, Unitwise, cells, generate, scan, train
from recur.compose import Bidirectional, Residual, Stacked, learned_start
from recur.compose.layers import causal

T, B, D, N = 36, 8, 3, 4  # more than 32 steps: chunked, where a cell is Unitwise
CELLS = {
    "stack": Stacked(cells.gru.cell, Residual(cells.lstm.cell)),
    "both": Stacked(Bidirectional(cells.minimal.cell), cells.vanilla.cell),
    "learned": learned_start(cells.gru.cell),
}


def numbers(cell, shared, params, xs, ys):
    """What is of the whole batch, and what has a part for each example: over devices, or on one."""
    value_and_grad = train.value_and_grad if shared else lambda loss, axes: jax.value_and_grad(loss)
    over_devices = train.over_devices if shared else lambda function: function

    def loss(params, batch):
        xs, ys = batch
        return jnp.mean(
            (scan.run(cell, params, xs, memory="sqrt")[1] - ys.sum(-1, keepdims=True)) ** 2
        )

    def passes(params, xs):
        state, hs = scan.run(cell, params, xs)
        values = [hs, *jax.tree.leaves(scan.states(cell, params, xs, reverse=True))]
        whole = jnp.zeros(())
        if causal(cell):
            hs = scan.truncated(cell, params, xs, state, truncate=7)[1]
            whole = scan.total(lambda hs, ys: (hs * ys).sum(), cell, params, xs, ys)[1]
        if isinstance(cell, Unitwise):
            penalty = train.omega(lambda hs: (hs**2).sum(), cell, params, xs)
            whole += xs.shape[1] * penalty  # which is a mean over examples
            begin, feed = cell.start(params, xs.shape[1:-1]), lambda key, h: h[..., :D] / 2
            body, teacher = scan.tied(cell, lax.stop_gradient(params)), np.arange(T) % 3 == 0
            key = jax.random.key(0)
            values += generate.scheduled(key, body, feed, begin, lax.stop_gradient(xs), teacher)[1:]
        return whole + jnp.sin(hs).sum(), values

    (gradient, by_input), values = jax.grad(passes, (0, 1), has_aux=True)(params, xs)
    whole = gradient, value_and_grad(loss, (1, 1))(params, (xs, ys))
    members = over_devices(jax.vmap(lambda xs: scan.run(cell, params, xs)[1]))
    return whole, ([by_input, *values], members(jnp.swapaxes(xs, 0, 1)))


def same(ours, expected):
    """To the rounding of float64, grown by sums of some hundred terms in another order."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())


def gathers(compiled):
    """The shapes of what is gathered from all devices that has time as an axis."""
    shapes = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", compiled.as_text())
    return [shape for shape in shapes if shape.count(",") >= 2]


def main(kind, sizes, names, under):
    sizes = tuple(map(int, sizes.split(",")))
    axes = ("i", "j")[: len(sizes)]
    inner = AxisType.Auto if kind == "Manual" else getattr(AxisType, kind)
    mesh = jax.make_mesh(sizes, axes, axis_types=(inner,) * len(sizes))
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(T, B, D)), rng.normal(size=(T, B, N))
    split = P(None, axes)

    def put(array, spec):
        return jax.device_put(array, NamedSharding(mesh, spec))

    with jax.set_mesh(mesh) if under else contextlib.nullcontext():
        for name in names:
            cell = CELLS[name] if name in CELLS else cells.named(name)
            params = jax.jit(lambda cell=cell: cell.init(jax.random.key(0), Prior(), D, N))()
            params = jax.tree.map(np.asarray, params)

            given = params, put(xs, split), put(ys, split)
            ours = partial(numbers, cell, True)
            if kind == "Manual":
                ours = jax.shard_map(
                    ours, mesh=mesh, in_specs=(P(), split, split), out_specs=(P(), (split, P(axes)))
                )
            compiled = jax.jit(ours).lower(*given).compile()
            same(compiled(*given), jax.jit(partial(numbers, cell, False))(params, xs, ys))
            assert kind == "Auto" or not gathers(compiled), gathers(compiled)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    assert jax.device_count() == 4
    main(sys.argv[1], sys.argv[2], sys.argv[3].split(","), "set" in sys.argv)
