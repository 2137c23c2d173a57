"""Random networks, passes and data: what `scan` makes of them against a loop over `cell.step`."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import loops
import numpy as np
import pytest
from hypothesis import strategies as st
from loops import Asked, Both, N, Skip, Stack, search

from recur import scan
from recur.compose import PerLayer

LENGTHS = (0, 1, 2, 7, 33, 40, 70)  # about "auto", chunks of 8, segments of 64 and of sqrt(T)
BATCHES = ((), (1,), (2,), (2, 1))
TOLERANCE = 1e-9  # of the largest entry: float64, up to 70 steps that may grow, in another order


class Program(NamedTuple):
    """What decides the shapes and the program; data alone differ between two of its cases."""

    network: tuple
    T: int
    batch: tuple = ()
    call: str = "run"
    engine: str = "auto"
    memory: str = "mix"
    reverse: bool = False
    unroll: int = 1
    given: tuple[str, ...] = ()  # of lengths, mask, reset
    start: str = "none"  # or "given", or "shared": two states share the inputs
    size: int = 0  # `truncate` or `piece`
    which: tuple[int, ...] = (0, 1, 2)  # derivatives in parameters, state, inputs
    mapped: tuple | None = None  # in_axes of a vmap over two networks


# --- what is drawn --------------------------------------------------------------------------------


@st.composite
def layer_of(draw, d, quiet, causal):
    """(network, width) of a cell, maybe in two directions, maybe with a skip around it."""
    network, width = draw(loops.leaf_of(d, quiet)), N
    if not causal and draw(st.integers(0, 3)) == 0:
        noisy = loops.noisy(network)  # both ways take one noise, so it must fit both
        network = Both(network, network if noisy else draw(loops.leaf_of(d, True)))
        width = 2 * N
    if width == d and draw(st.integers(0, 2)) == 0:
        network = Skip(draw(st.sampled_from(["residual", "highway"])), network)
    return network, width


@st.composite
def network_of(draw, causal):
    if draw(st.booleans()):
        return draw(layer_of(N, False, causal))[0]
    layers, d = [], N
    for _ in range(draw(st.integers(1, 3))):
        layer, d = draw(layer_of(d, False, causal))
        layers.append(layer)
    if d == N and draw(st.integers(0, 3)) == 0:  # a stack within a stack
        inner = [draw(layer_of(N, True, True))[0] for _ in range(2)]
        network = Stack(tuple(inner))
        layers.append(Skip("residual", network) if draw(st.booleans()) else network)
    return Stack(tuple(layers))


@st.composite
def program_of(draw):
    call = draw(st.sampled_from(["run", "run", "run", "states", "truncated", "total"]))
    causal = call in ("truncated", "total")
    network = draw(network_of(causal))
    chunked = all(map(loops.unitwise, loops.leaves(network)))
    start = draw(st.sampled_from(["none", "given", "shared"]))
    which = draw(st.sampled_from([(0, 1, 2), (0,), (2,), (1,), (0, 2)]))
    if start == "none":
        which = tuple(i for i in which if i != 1) or (0,)
    asked = draw(st.lists(st.sampled_from(["lengths", "mask", "reset"]), unique=True))
    return Program(
        network,
        draw(st.sampled_from(LENGTHS)),
        draw(st.sampled_from(BATCHES)),
        call,
        draw(st.sampled_from(["auto", "scan", *["chunked"] * chunked])),
        draw(st.sampled_from(["mix", "states", "chunks", "sqrt"])) if call != "total" else "mix",
        not causal and draw(st.booleans()),
        draw(st.sampled_from([1, 3])) if call != "total" else 1,
        tuple(sorted(asked)),
        start,
        draw(st.sampled_from([1, 3, 8, 100])) if causal else 0,
        which,
        draw(st.sampled_from([None, None, (0, 0, 0), (0, None, None), (None, 0, 0)])),
    )


def data_of(program, seed):
    """(params, state, xs), and tangents like them, for both networks; (there, reset, given)."""
    rng = np.random.default_rng(seed)
    T, own = program.T, program.batch
    batch = (2, *own) if program.start == "shared" else own
    params, state = loops.shapes(program.network, batch)
    like = params, state, inputs_like(program, own)
    size = rng.choice([0.0, 0.5, 0.5, 0.5, 20.0])  # of the inputs; 20 drives gates to their ends

    def numbers(tree, scale):
        return jax.tree.map(lambda a: scale * rng.normal(size=a.shape), tree)

    points = [[numbers(like[0], 0.5), numbers(like[1], 0.5), numbers(like[2], size)] for _ in "ab"]
    tangents = [[numbers(tree, 0.5) for tree in like] for _ in "ab"]
    lengths = rng.choice([0, T, *rng.integers(0, T + 1, size=3)], size=own)
    holes = rng.random((T, *own)) < rng.choice([0.3, 0.9])
    reset = rng.random((T, *own)) < rng.choice([0.1, 0.5])
    flags = {"lengths": lengths, "mask": holes, "reset": reset}
    flags = {name: flags[name] for name in program.given}
    there = np.ones((T, *own), bool)
    if "lengths" in flags:
        there &= loops.before(T, lengths)
    if "mask" in flags:
        there &= holes
    return points, tangents, flags, there


def inputs_like(program, batch):
    """Inputs with the noise that each layer takes."""
    times = (program.T, *batch)
    x = jax.ShapeDtypeStruct((*times, N), jnp.result_type(float))

    def noise(layer):
        leaf = loops.leaves(layer)[0]
        if "dropout" in leaf.around:
            return x
        if "zoneout" not in leaf.around:
            return None
        return jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((program.T, *s.shape), jnp.result_type(float)),
            loops.shapes(leaf, batch)[1],
        )

    if not loops.noisy(program.network):
        return x
    if isinstance(program.network, Stack):
        return PerLayer(tuple(map(noise, program.network.layers)), x)
    return noise(program.network), x


# --- the comparison -------------------------------------------------------------------------------


def weights_like(tree):
    """A cotangent in which every entry has a weight of its own."""
    return jax.tree.map(lambda a: np.sin(1.0 + np.arange(a.size)).reshape(a.shape), tree)


def derived(f, point, tangent, which, ahead=None):
    """Value, gradients and directional derivative of f in some of its arguments.

    The last is taken of `ahead`, where that is another function.
    """

    def of(f, *moving):
        arguments = list(point)
        for i, value in zip(which, moving, strict=True):
            arguments[i] = value
        return f(*arguments)

    moving, along = ([args[i] for i in which] for args in (point, tangent))
    value, pull = jax.vjp(partial(of, f), *moving)
    return value, pull(weights_like(value)), jax.jvp(partial(of, ahead or f), moving, along)[1]


def ours(program, params, state, xs, flags):
    """The call of recur."""
    cell = loops.build(program.network)
    how = {"engine": program.engine, **flags}
    if program.start != "none":
        how["state"] = state
    if program.call == "total":
        targets = weights_like(jax.eval_shape(lambda: scan.run(cell, params, xs, **how)[1]))
        read = lambda hs, w: jnp.sum(hs * w)  # noqa: E731
        return scan.total(read, cell, params, xs, targets, piece=program.size, **how)
    how |= {"memory": program.memory, "unroll": program.unroll}
    if program.call == "truncated":
        return scan.truncated(cell, params, xs, truncate=program.size, **how)
    return getattr(scan, program.call)(cell, params, xs, reverse=program.reverse, **how)


def theirs(program, there, reset, ahead, params, state, xs):
    """The same by a loop."""
    if program.start == "none":
        state = loops.begin(program.network, params, program.batch)
    if program.start == "shared":
        xs, there, reset = jax.tree.map(
            lambda a: jnp.broadcast_to(a[:, None], (program.T, 2, *a.shape[1:])),
            (xs, there, reset),
        )
    cut = program.size if program.call == "truncated" else 0
    asked = Asked(there, reset, program.reverse, cut, ahead)
    final, hs, every = loops.loop(program.network, params, state, xs, asked)
    if program.call == "states":
        return every
    return final, jnp.sum(hs * weights_like(hs)) if program.call == "total" else hs


@cache
def compiled(program):
    @jax.jit
    def all_of(point, tangent, flags):
        def one(point, tangent):
            f = lambda *point: ours(program, *point, flags)  # noqa: E731
            return derived(f, point, tangent, program.which)

        if program.mapped is None:
            return one(point, tangent)
        return jax.vmap(one, (list(program.mapped),) * 2)(point, tangent)

    return all_of


def check(program, seed):
    if program.T == 0:
        nothing = data_of(program, seed)[0][0]
        with pytest.raises(ValueError, match="T = 0"):
            jax.eval_shape(lambda *point: ours(program, *point, {}), *nothing)
        return
    points, tangents, flags, there = data_of(program, seed)
    reset = flags.get("reset", np.zeros_like(there))
    hidden = [[*point[:2], loops.spoiled(there, point[2])] for point in points]
    if program.mapped is None:
        members, given = [0], (hidden[0], tangents[0])
    else:
        members = [0, 1]
        for both in (points, hidden, tangents):
            both[1] = [both[a is not None][i] for i, a in enumerate(program.mapped)]
        given = tuple(
            [
                a if axis is None else jax.tree.map(lambda *m: np.stack(m), a, b)
                for a, b, axis in zip(*both, program.mapped, strict=True)
            ]
            for both in (hidden, tangents)
        )
    reference = partial(by_loop, program, there, reset, tangents, members)
    found, expected = jax.device_get(compiled(program)(*given, flags)), reference(points)
    try:
        assert_close(found, expected)
    except AssertionError:  # a chaotic network carries one rounding far; how far, it says itself
        moved = reference(jax.tree.map(lambda a: np.nextafter(a, np.inf), points))
        assert_close(found, expected, moved)


def by_loop(program, there, reset, tangents, members, points):
    """Value, gradients and jvp of each member by the loop, stacked where there are two."""
    back, ahead = (partial(theirs, program, there, reset, mode) for mode in (False, True))
    each = [derived(back, points[i], tangents[i], program.which, ahead) for i in members]
    if len(each) == 1:
        return jax.device_get(each[0])
    return jax.tree.map(lambda *m: np.stack(m), *jax.device_get(each))


def assert_close(found, expected, moved=None):
    """To TOLERANCE, or to a thousand times what one rounding of all arguments does."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    moved = expected if moved is None else moved
    leaves = jax.tree.leaves_with_path(expected)
    for (path, b), a, c in zip(leaves, *map(jax.tree.leaves, (found, moved)), strict=True):
        allowed = TOLERANCE * max(1, np.abs(b).max(initial=0)) + 1e3 * np.abs(b - c).max(initial=0)
        where = ("value", "gradient", "jvp")[path[0].idx] + jax.tree_util.keystr(path[1:])
        np.testing.assert_allclose(a, b, rtol=0, atol=allowed, err_msg=where)


def test_15_cases():
    search(check, program_of(), 3, 5)


@pytest.mark.slow
def test_100_cases():
    search(check, program_of(), 4, 25)


@pytest.mark.long
def test_2000_cases():
    search(check, program_of(), 500, 4, at_random=True)
