"""Good calls of all public functions, and what may be wrong with each of their arguments."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import recur
from recur import Prior, analysis, cells, scan, train, weights
from recur.flax import models
from recur.flax.cells import NnxCell

D, N, T, B = 3, 4, 5, 2
KEY = np.array([0, 7], np.uint32)  # of the old kind, which needs no program to be made
CELL, LSTM = cells.gru.cell, cells.lstm.cell
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("f")


PARAMS = cells.gru.Params(normal(N, 3 * N), normal(D, 3 * N), normal(3 * N))
LSTM_PARAMS = cells.lstm.Params(normal(N, 4 * N), normal(D, 4 * N), normal(4 * N))
BODY = scan.tied(CELL, PARAMS)
H, XS, HS = normal(N), normal(T, D), normal(T, N)
LOGITS, LABELS = normal(T, B, 6), np.ones((T, B), int)
IMAGES = normal(4, 2, 3)
PRIOR = Prior()
SGD = optax.sgd(0.1)


def rngs():
    return nnx.Rngs(0)


def filled(make):
    """A model of zeros, drawn by no program."""
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), nnx.eval_shape(make))


FILLED = filled(lambda: NnxCell(CELL, D, N, rngs=rngs()))
SPEAKER = filled(lambda: models.LanguageModel(CELL, 6, D, N, rngs=rngs()))


def loss(hs):
    return jnp.sum(jnp.asarray(hs) ** 2)


def losses(hs):
    return jnp.sum(hs**2, axis=-1)


def feed(key, h):
    return h[..., :D]


def learning(params, batch):
    return jnp.sum(params**2)


def sample(key):
    return jnp.zeros(2)


# --- what may be wrong, by the name of the argument -----------------------------------------------

COUNT = [0, -1, 1.5, "3", None, np.nan, np.ones(2)]
INDEX = [-1, 99, 1.5, "3", None, np.nan]
NUMBER = [np.nan, "1", None, np.ones((2, 3), "f"), 1j]
POSITIVE = [*NUMBER, 0.0, -1.0]
SECONDS = [value for value in POSITIVE if value is not None]  # None: in steps
KEYS = [None, "seed", 0.5, 7, np.zeros(3, "f"), np.zeros((2, 2), "f")]
FUNCTION = [None, 3, "loss", np.ones(2)]
RECURRENCE = [None, 3, "gru", cells.gru, PARAMS, CELL.step]
FLAGS = [np.ones((T, D), bool), np.ones(T, int), np.ones(T - 1, bool), "yes", 3]
LENGTHS = [np.full((), T + 1), np.full((), -1), np.ones(()), np.ones(3, int), "all"]
BAD = {
    "key": KEYS,
    "cell": RECURRENCE,
    "forward": RECURRENCE,
    "backward": RECURRENCE[1:],
    "layers": RECURRENCE,
    "encoder": RECURRENCE,
    "decoder": RECURRENCE,
    "body": [*FUNCTION, CELL, PARAMS, lambda state: state],
    "params": [None, 3, "W", LSTM_PARAMS, PARAMS._replace(W=normal(7, 3 * N)), tuple(PARAMS)[:2]],
    "state": ["h", 3, normal(7), np.zeros(N, int), np.zeros(N, complex), (H, H), {"h": H}],
    "xs": [None, "xs", 3, [], XS[:0], XS[:, :2], XS.astype(int), XS.astype(complex), XS[0, 0]],
    "prior": [3.0, "x", Prior(sigma_w=np.ones(7)), Prior(sigma_v="big"), {"sigma_w": 1.0}],
    "loss": FUNCTION,
    "losses": [*FUNCTION, loss],
    "lengths": LENGTHS,
    "mask": FLAGS,
    "reset": FLAGS,
    "engine": ["fast", None, 3, True],
    "memory": ["all", None, 3, True],
    "unroll": COUNT,
    "reverse": ["yes", None, 3.0, np.ones(2, bool)],
    "steps": COUNT,
    "T": COUNT,
    "k": COUNT,
    "products": COUNT,
    "probes": COUNT,
    "every": COUNT,
    "discard": INDEX,
    "lag": INDEX,
    "rate": [-0.1, 1.0, np.nan, "a", None, 1j, np.zeros(2)],
    "R": POSITIVE,
    "Sigma": [1.5, np.nan, "1", None, 1j],
    "d": COUNT[1:],  # 0: a network without inputs
    "n": COUNT,
}

GOOD = {}  # name of a function: a good call, by the names of its arguments
WRONG = {}  # name of a function: bad values of its own, where those of BAD do not do


def door(names, good, **wrong):
    """A good call of one function or of several."""
    for name in names.split():
        GOOD[name], WRONG[name] = good, wrong


# --- good calls -----------------------------------------------------------------------------------

ALONG = {"body": BODY, "state": H, "xs": XS}
ARRAYS = [None, "x", 3, [], {}]
NUMBERS = [None, "x", np.ones((), "f"), {}]

door(
    "check_cell",
    {"cell": CELL, "d": D, "n": N, "prior": PRIOR},
    prior=[3.0, "x", Prior(sigma_v="big")],  # of others the report says what they do
)
door("Prior.draw", {"key": KEY, "d": D, "n": N, "gates": 2}, gates=COUNT)

door(
    "analysis.log_singular_values analysis.singular_value_details analysis.one_step_spectra "
    "compose.steps_present",
    ALONG,
)
door(
    "analysis.batched",
    {"analysis": analysis.log_gain},
    analysis=[*FUNCTION, analysis.fixed_points, jnp.sin],
)
door("analysis.log_gain", {"key": KEY, **ALONG})
door("analysis.input_output", {**ALONG, "lags": [0, 1]}, lags=[None, 3, [], [9], [-1], [1.5], "12"])
door("analysis.input_directions", {**ALONG, "lag": 1})
MAPPED = {"network": lambda xs: jnp.tanh(xs) @ PARAMS.V, "xs": XS, "t": 2}
MAPS = [*FUNCTION, lambda xs: (xs, xs), lambda xs: xs.sum(), lambda xs: xs @ xs]
door("analysis.network_jacobian", MAPPED, network=MAPS, t=INDEX)
door(
    "analysis.network_input_output",
    {**MAPPED, "lags": [-1, 1]},
    network=[*MAPS, lambda xs: xs[:2]],
    t=INDEX,
    lags=[None, 3, [], [9], [-9], [1.5], "12"],
)
door(
    "analysis.network_gradient_norms",
    {"loss": loss, "network": MAPPED["network"], "xs": XS},
    loss=[*FUNCTION, losses],
    network=MAPS,
)
door("analysis.top_log_singular_values", {"key": KEY, **ALONG, "k": 2, "products": 3})
door("analysis.singular_density", {"key": KEY, **ALONG, "products": 3, "probes": 2})
door("analysis.gradient_norms", {"loss": loss, **ALONG}, loss=[*FUNCTION, losses])
door("analysis.gradient_map", {"losses": losses, **ALONG, "lags": 2}, lags=INDEX)
door(
    "analysis.gradient_by_lag",
    {
        "losses": losses,
        "network": partial(scan.tied, CELL),
        "params": PARAMS,
        "state": H,
        "xs": XS,
        "lags": 2,
    },
    network=[*FUNCTION, CELL, lambda params: 3],
    lags=INDEX,
)
door(
    "analysis.quantiles", {"logs": HS, "q": (0.1, 0.5)}, logs=NUMBERS, q=[[2.0], [-0.1], "a", None]
)
door("analysis.verdict", {"logs": HS}, logs=[*NUMBERS, HS[:, :1]])
door(
    "analysis.lyapunov analysis.lyapunov_details",
    {"key": KEY, **ALONG, "k": 2, "discard": 1, "every": 2, "dt": 0.1},
    k=COUNT[:4],
    every=COUNT[:4],
    dt=SECONDS,
)
door(
    "analysis.flossing",
    {"key": KEY, **ALONG, "k": 2, "discard": 1, "every": 1},
    every=COUNT[:4],
)
door("analysis.finite_growth", {"key": KEY, **ALONG, "k": 2, "discard": 1, "dt": 0.1}, dt=SECONDS)
door("analysis.kaplan_yorke analysis.entropy_rate", {"exponents": H}, exponents=[*NUMBERS, H[:0]])
door(
    "analysis.fixed_points",
    {
        "body": BODY,
        "states": HS,
        "x": XS[0],
        "descent": 3,
        "newton": 2,
        "rate": 0.5,
        "forward": 1,
        "x_per_state": False,
    },
    states=[None, "h", H[0], normal(T, 7), np.zeros((T, N), int)],
    x=[None, "x", 3, XS[0, :2]],
    descent=INDEX[:1] + INDEX[2:],
    newton=INDEX[:1] + INDEX[2:],
    rate=POSITIVE,
    forward=INDEX[:1] + INDEX[2:],
    x_per_state=["yes", None, 1, True],
)
door(
    "analysis.distinct",
    {"points": analysis.Points(HS, np.ones(T, "f")), "speed": 1.0, "distance": 0.1},
    points=[None, 3, HS, "points"],
    speed=[np.nan, "1", None, -1.0],
    distance=[np.nan, "1", None, -1.0],
)
door(
    "analysis.describe_points",
    {"points": analysis.Points(HS, np.ones(T, "f"))},
    points=[None, 3, HS, "points"],
)
door("analysis.openness", ALONG)
door(
    "analysis.stability analysis.modes",
    {"body": BODY, "states": HS, "x": XS[0], "dt": 0.1, "x_per_state": False},
    states=[None, "h", H[0], normal(T, 7), np.zeros((T, N), int)],
    x=[None, "x", 3, XS[0, :2]],
    dt=[*POSITIVE, np.inf],
    x_per_state=["yes", None, 1, True],
)

door("compose.orthogonal compose.identity compose.glorot", {"cell": CELL})
door(
    "compose.sparse",
    {"cell": CELL, "density": 0.5, "spectral_radius": 0.9},
    density=[*POSITIVE, 1.5],
    spectral_radius=[*NUMBER, -1.0, np.inf],
)
door("compose.forget_bias", {"cell": CELL, "value": 1.0}, value=[*NUMBER, np.inf])
door("compose.chrono", {"cell": CELL, "T_max": 20}, T_max=[*NUMBER, 2, np.inf])
door(
    "compose.masked compose.resetting compose.zoneout compose.learned_start compose.Residual "
    "compose.HighwaySkip compose.recurrent_dropout compose.layer_normed compose.input_dropout",
    {"cell": CELL},
)
door(
    "compose.Stacked",
    {"*layers": (CELL, LSTM)},
    **{"*layers": [(), *((CELL, c) for c in RECURRENCE)]},
)
door("compose.Bidirectional", {"forward": CELL, "backward": LSTM})
door("compose.sequence_keep", {"key": KEY, "rate": 0.5, "steps": T, "h": H}, h=ARRAYS)
door("compose.step_keep", {"key": KEY, "rate": 0.5, "steps": T, "x": H}, x=ARRAYS)
door(
    "compose.weight_drop",
    {"key": KEY, "rate": 0.5, "weights": H},
    weights=[None, "h", (), {}],
)
door(
    "gated",
    {"Params": recur.GateParams, "update": lambda h, u: u * h, "gates": ("u",)},
    Params=[None, 3, "Params", dict],
    gates=["u", (), (1,), ("u", "u")],
)
door("compose.constrained", {"cell": CELL, "constraint": lambda params: params})
door(
    "compose.zoneout_keep",
    {"key": KEY, "rate": 0.5, "steps": T, "state": H},
    state=[None, "h", (), {}],
)

RUN = {"cell": CELL, "params": PARAMS, "xs": XS, "state": H}
HOW = {"lengths": np.full((), T), "mask": np.ones(T, bool), "reset": np.zeros(T, bool)}
FAST = {"engine": "auto", "memory": "mix"}
door(
    "scan.run scan.states",
    {**RUN, **HOW, **FAST, "reverse": False, "unroll": 1},
)
door("scan.truncated", {**RUN, "truncate": 2, **HOW, **FAST, "unroll": 1}, truncate=COUNT)
door(
    "scan.total",
    {
        "read": lambda hs, targets: jnp.sum(hs * targets),
        **RUN,
        "targets": HS,
        **HOW,
        "engine": "auto",
        "piece": 2,
    },
    read=[*FUNCTION, lambda hs, targets: hs],
    targets=["x", HS[:2], 3],
    piece=COUNT[:4],
)
door("scan.present", {"xs": XS, "lengths": HOW["lengths"], "mask": HOW["mask"]}, xs=ARRAYS)
door("scan.plan", {"cell": CELL, "xs": XS, **FAST}, xs=ARRAYS)
door("scan.tied", {"cell": CELL, "params": PARAMS}, params=[LSTM_PARAMS, None, 3])
door("scan.masked", {"body": BODY}, body=FUNCTION)
door("scan.untied", {"cell": CELL, "prior": PRIOR, "d": D, "n": N}, prior=[3.0, None, "x"])
door("scan.check", ALONG)
door("scan.check_finite", {"xs": XS, "name": "xs"}, xs=[None, "x", [], XS * np.nan, 3], name=[])
door("scan.first_nonfinite", {"xs": XS}, xs=ARRAYS)
door("scan.input_array", {"xs": XS}, xs=[None, [], {}])
door("scan.length", {"xs": XS}, xs=ARRAYS)
door("scan.number_of_steps", {"xs": XS, "what": "this"}, xs=ARRAYS, what=[])
door("scan.require_float", {"xs": XS}, xs=[*ARRAYS, XS.astype(int), XS[0]])
door(
    "scan.require_index", {"index": LABELS}, index=[None, "x", LABELS * 6, LABELS - 2, LABELS * 1.5]
)
door("scan.require_integers", {"T": 3}, T=[1.5, "3", None, np.nan])
door(
    "scan.require_lengths",
    {"lengths": np.array([2, 3])},
    lengths=[[9, 9], [1], [0.5, 1.0], None, "x"],
)

KINDS = {"prior": PRIOR, "R": 1.0, "Sigma": 0.5}
SWEEP = {"cell": CELL, "prior": PRIOR, "R": 1.0, "field": "sigma_w", "low": 0.5, "high": 2.0}
FIELDS = {"field": ["W", None, 3], "low": [3.0, "1", None, np.nan, -1.0], "high": [0.1, "1", None]}
SIGMAS = {"Sigmas": [None, "x", np.full(3, 2.0), np.full(3, np.nan), 0.5]}
door("theory.closed.vanilla theory.closed.minimal theory.closed.numbers", KINDS)
door("theory.spectrum.vanilla theory.spectrum.minimal", {"prior": PRIOR, "R": 1.0, "T": 3})
door("theory.untied", {"cell": CELL, **KINDS, "key": KEY}, key=KEYS[1:])
door("theory.tied", {"cell": CELL, **KINDS, "key": KEY, "n": 64}, key=KEYS[1:], n=COUNT[:4])
door(
    "theory.signal_untied theory.signal_tied",
    {"cell": CELL, "prior": PRIOR, "R": 1.0, "Sigmas": np.full(3, 0.5, "f"), "key": KEY},
    key=KEYS[1:],
    **SIGMAS,
)
door("theory.critical", {**SWEEP, "key": KEY}, key=KEYS[1:], **FIELDS)
door("theory.slowest", {**SWEEP, "Sigma": 1.0, "key": KEY}, key=KEYS[1:], **FIELDS)
door("theory.critical_minimal", {"mu_b": 1.0, "q": 1.0, "R": 0.1}, mu_b=NUMBER, q=POSITIVE)
door("theory.timescale", {"chi": 0.9}, chi=[None, "x", {}])

door(
    "generate.scheduled",
    {"key": KEY, "body": BODY, "feed": feed, "state": H, "xs": XS, "teacher": np.ones(T, bool)},
    feed=[*FUNCTION, lambda key, h: h],
    teacher=[*FLAGS, None],
)
door(
    "generate.free_running",
    {"key": KEY, "body": BODY, "feed": feed, "state": H, "x": XS[0], "steps": 3},
    feed=[*FUNCTION, lambda key, h: h],
    x=[None, "x", 3, XS[0, :2], XS[0].astype(complex)],
)
door("generate.inverse_sigmoid", {"update": 10, "k": 3.0}, update=[None, "x"], k=[*NUMBER, 0.5])

door(
    "tasks.copy tasks.memorisation",
    {"T": 3, "symbols": 4, "length": 2},
    symbols=COUNT,
    length=COUNT,
)
door("tasks.random_permutation", {"T": 3, "symbols": 4}, symbols=COUNT)
door(
    "tasks.flip_flop",
    {"T": 3, "bits": 2, "pulses": 0.5},
    bits=COUNT,
    pulses=[*NUMBER, -0.1, 1.1],
)
door("tasks.integrator", {"T": 3})
door("tasks.adding tasks.delayed_xor tasks.temporal_order tasks.three_bit_order", {"T": 10})
PICTURES = {"images": IMAGES, "labels": np.array([0, 1, 1, 0])}
BAD_PICTURES = {
    "images": [None, "x", 3, IMAGES[:0], IMAGES[:2]],
    "labels": [None, "x", [0, 1], [0, 1, 9, 0], [0.5, 1, 1, 0], [0, 1, -1, 0]],
    "classes": [*COUNT, 1],
}
door("tasks.padded", {**PICTURES, "T": 3, "noise": 0.1, "classes": 2}, **BAD_PICTURES, noise=NUMBER)
door(
    "tasks.unrolled",
    {**PICTURES, "pixels": 2, "classes": 2, "order": np.arange(6)},
    **BAD_PICTURES,
    pixels=[*COUNT, 4],
    order=["x", np.arange(5), np.arange(6) + 1, np.arange(6.0), 3],
)
door(
    "tasks.permuted",
    {"key": KEY, **PICTURES, "pixels": 2, "classes": 2},
    **BAD_PICTURES,
    pixels=[*COUNT, 4],
)
door("tasks.pad", {"key": KEY, "images": IMAGES, "T": 3, "noise": 0.1}, images=ARRAYS, noise=NUMBER)
door(
    "tasks.unroll",
    {"images": IMAGES, "pixels": 2, "order": np.arange(6)},
    images=ARRAYS,
    pixels=[*COUNT, 4],
    order=["x", np.arange(5), np.arange(6) + 1, np.arange(6.0), 3],
)
TARGETS = [None, "x", 3, LABELS[:2], LABELS * 9, LABELS.astype(complex), LABELS - 5]
OUTPUTS = [None, "x", 3, LOGITS[:2], LOGITS[0], LOGITS.astype(int)]
door(
    "tasks.loss tasks.accuracy",
    {"outputs": LOGITS, "targets": LABELS},
    outputs=OUTPUTS,
    targets=TARGETS,
)

WEIGHTS = {"w": np.ones(2, "f")}
STATE = train.State(
    WEIGHTS, SGD.init(WEIGHTS), KEY, np.int32(0), np.int32(-1), np.nan, np.int32(-1)
)
OPTIMIZERS = [None, 3, "sgd", optax.sgd]
door(
    "train.start",
    {"key": KEY, "params": {"w": np.ones(2, "f")}, "optimizer": SGD},
    params=["w", None, {"w": "x"}],
    optimizer=OPTIMIZERS,
)
door(
    "train.advance_stateful",
    {
        "loss": lambda params, carried, batch: (jnp.sum((params["w"] - batch) ** 2), carried),
        "optimizer": SGD,
        "piece": lambda key, step: jnp.zeros(2),
        "state": STATE,
        "carried": H,
        "steps": 4,
        "every": 2,
    },
    loss=[*FUNCTION, lambda params, carried, batch: params["w"]],
    optimizer=OPTIMIZERS,
    piece=FUNCTION,
    state=[None, 3, "s", STATE.params],
    carried=[],
)
door(
    "train.advance",
    {
        "loss": lambda params, batch: jnp.sum((params["w"] - batch) ** 2),
        "optimizer": SGD,
        "sample": lambda key: jnp.zeros(2),
        "state": STATE,
        "steps": 4,
        "every": 2,
    },
    loss=[*FUNCTION, lambda params, batch: params["w"]],
    optimizer=OPTIMIZERS,
    sample=FUNCTION,
    state=[None, 3, "s", STATE.params],
)
door("train.training", {"state": STATE}, state=[None, 3, "s", STATE.params])
door(
    "train.finish",
    {"state": STATE, "reached": True},
    state=[None, 3, "s", STATE.params],
    reached=[None, "yes", np.ones((2, 2), "f")],
)
door(
    "train.omega",
    {"loss": loss, **RUN},
    loss=[*FUNCTION, losses],
    state=["h", 3, normal(7), np.zeros(N, int), (H, H), {"h": H}],
)
door("train.over_devices", {"function": loss}, function=FUNCTION)
door(
    "train.value_and_grad",
    {"loss": learning, "batch_axes": 1},
    loss=FUNCTION,
    batch_axes=[-1, "x", 1.5],
)

door(
    "checkpoint.Checkpoints",
    {"folder": "nowhere", "keep": 2, "seconds": 0.0},
    folder=[None, 3],
    keep=COUNT,
    seconds=[np.nan, "1", None, -1.0],
)

MODEL = {"d": D, "n": N, "prior": None, "rngs": rngs}
RNGS = [None, 3, "x"]
SIZES = {
    "rngs": RNGS,
    "d": COUNT[1:],
    "n": COUNT,
    "vocabulary": COUNT,
    "classes": COUNT,
    "tags": COUNT,
    "k": COUNT,
}
door(
    "flax.models.Classifier",
    {"cell": CELL, **MODEL, "classes": 3, "pool": models.last},
    pool=FUNCTION,
    **SIZES,
)
door(
    "flax.models.Tagger",
    {"cell": CELL, **MODEL, "tags": 3, "read": None},
    read=[3, "x", lambda params, hs: hs],
    **SIZES,
)
door("flax.models.LanguageModel", {"cell": CELL, "vocabulary": 5, **MODEL}, **SIZES)
door("flax.models.Autoencoder", {"cell": CELL, "vocabulary": 5, **MODEL}, **SIZES)
door(
    "flax.models.HierarchicalAutoencoder",
    {"cell": CELL, "vocabulary": 5, **MODEL, "combine": "sum"},
    combine=[None, 3, "mean"],
    **SIZES,
)
door("flax.models.Generator", {"cell": CELL, "k": 2, "vocabulary": 5, **MODEL}, **SIZES)
door(
    "flax.models.EncoderDecoder",
    {"encoder": CELL, "decoder": CELL, "vocabularies": (5, 6), **MODEL, "pool": models.last},
    pool=FUNCTION,
    vocabularies=[None, 5, (5,), (0, 5), "ab"],
    **SIZES,
)
door(
    "flax.models.AttentiveDecoder",
    {"encoder": CELL, "decoder": CELL, "vocabularies": (5, 6), **MODEL},
    vocabularies=[None, 5, (5,), (0, 5), "ab"],
    **SIZES,
)
door(
    "flax.models.Embedded",
    {"model": loss, "vocabulary": 5, "d": D, "rngs": rngs},
    model=FUNCTION,
    **SIZES,
)
door("flax.models.AttentionPool", {"width": 3, "rngs": rngs}, width=COUNT, rngs=RNGS)
POOLED = {"hs": [None, "x", 3, [], HS[:0], HS[0, 0]], "lengths": LENGTHS}
door(
    "flax.models.last flax.models.ends flax.models.mean",
    {"hs": HS, "lengths": np.full((), T)},
    **POOLED,
)
door(
    "flax.models.LanguageModel.generate",
    {"key": KEY, "prompt": LABELS, "steps": 3, "temperature": 1.0, "top_k": 2},
    prompt=[None, "x", 3, LABELS * 9, LABELS - 5, LABELS * 1.5, LABELS[:0]],
    temperature=[*POSITIVE[:3], *POSITIVE[4:]],
    top_k=[*COUNT[:4], 7],
)
door(
    "flax.models.sampled",
    {"temperature": 1.0, "top_k": 2},
    temperature=[*POSITIVE[:3], *POSITIVE[4:]],
    top_k=COUNT[:4],
)
door(
    "flax.models.beam_search",
    {
        "body": lambda h, symbol: CELL.step(PARAMS, h, jnp.zeros(D) + symbol.astype("f")),
        "readout": lambda h: h,
        "state": H,
        "first": np.ones(1, int),
        "steps": 3,
        "beams": 2,
        "end": 0,
    },
    body=FUNCTION,
    readout=FUNCTION,
    state=[None, "h"],
    first=[None, "x", 3, {}],
    beams=COUNT,
    end=INDEX,
)
door("flax.models.greedy", {"key": KEY, "logits": LOGITS}, key=[], logits=ARRAYS)
OF_LABELS = {
    "logits": [None, "x", 3, LOGITS[:2], LOGITS[0], LOGITS.astype(int), LOGITS[..., :0]],
    "labels": [None, "x", 3, LABELS[:2], LABELS * 9, LABELS * 1.5, LABELS - 5],
    "lengths": [[9, 9], [1], [0.5, 1.0], "x", 3],
}
door(
    "flax.models.cross_entropy",
    {
        "logits": LOGITS,
        "labels": LABELS,
        "lengths": np.array([5, 3]),
        "mask": np.ones((T, B), bool),
    },
    **OF_LABELS,
)
door(
    "flax.models.ctc",
    {
        "logits": LOGITS,
        "labels": np.array([[1, 2], [3, 4]]),
        "lengths": np.array([5, 4]),
        "label_lengths": np.array([2, 1]),
        "blank": 0,
    },
    **{
        **OF_LABELS,
        "logits": [None, "x", 3, LOGITS[0], LOGITS.astype(int)],
        "labels": OF_LABELS["labels"][:3],
    },
    label_lengths=OF_LABELS["lengths"],
    blank=INDEX,
)
DECODING = {"logits": LOGITS, "lengths": np.array([5, 4]), "blank": 0}
BAD_DECODING = {
    "logits": [None, "x", 3, LOGITS[0, 0], LOGITS.astype(int), LOGITS[..., :0]],
    "lengths": OF_LABELS["lengths"],
    "blank": INDEX,
}
door("flax.models.ctc_greedy", DECODING, **BAD_DECODING)
door("flax.models.ctc_decode", {**DECODING, "beams": 2}, beams=COUNT, **BAD_DECODING)
INTEGERS = [None, "x", 3, LABELS[:, :1], LABELS * 1.5, {}]
door(
    "flax.models.edit_distance flax.models.label_error_rate",
    {
        "answers": LABELS[:3],
        "labels": LABELS,
        "answer_lengths": np.array([3, 1]),
        "label_lengths": np.array([5, 2]),
    },
    answers=INTEGERS,
    labels=INTEGERS,
    answer_lengths=[[9, 9], [1], [0.5, 1.0], "x", 3],
    label_lengths=[[9, 9], [1], [0.5, 1.0], "x", 3],
)
door(
    "flax.models.sampled_cross_entropy",
    {
        "key": KEY,
        "features": normal(T, B, D),
        "table": normal(6, D),
        "labels": LABELS,
        "log_q": np.zeros(6, "f"),
        "samples": 3,
        "lengths": np.array([5, 3]),
        "mask": np.ones((T, B), bool),
    },
    features=[None, "x", 3, normal(T, B, 7), normal(2, B, D), np.ones((T, B, D), int)],
    table=[None, "x", 3, normal(6, 7), normal(7, D)],
    labels=OF_LABELS["labels"],
    log_q=[None, "x", 3, np.zeros(5, "f")],
    samples=COUNT,
    lengths=OF_LABELS["lengths"],
)

door("flax.cells.from_nnx", {"make": nnx.GRUCell}, make=FUNCTION)
door("flax.cells.from_linen", {"module": nn.GRUCell(4)}, module=[None, 3, "x", nn.Dense(3)])
door("flax.cells.NnxCell", {"cell": CELL, **MODEL}, rngs=RNGS)
MAPPINGS = [None, 3, "x", {}, {"weight": normal(3, 3)}, {"weight_ih": "x"}]
TORCH = {"weight_ih": normal(N, D), "weight_hh": normal(N, N)}


def wide(gates):
    return {"weight_ih": normal(gates * N, D), "weight_hh": normal(gates * N, N)}


door(
    "flax.weights.with_params",
    {"model": FILLED, "params": PARAMS},
    model=[None, 3, PARAMS, jnp.tanh],
    params=[None, 3, LSTM_PARAMS, PARAMS._replace(W=normal(7, 3 * N))],
)
door("weights.torch_lstm", {"state": wide(4)}, state=[*MAPPINGS, wide(3)])
door("weights.torch_gru", {"state": wide(3)}, state=[*MAPPINGS, wide(4)])
door("weights.torch_rnn", {"state": wide(1)}, state=[*MAPPINGS, wide(4)])
PROJECTED = {
    "weight_ih": normal(4 * N, D),
    "weight_hh": normal(4 * N, 2),
    "weight_hr": normal(2, N),
}
door("weights.torch_projected_lstm", {"state": PROJECTED}, state=[*MAPPINGS, wide(4)])
door(
    "weights.torch_layers",
    {"one": weights.torch_rnn, "state": {f"{name}_l0": a for name, a in wide(1).items()}},
    one=FUNCTION,
    state=MAPPINGS,
)
FLAX = {
    "dense_i": {"kernel": normal(D, 4 * N)},
    "dense_h": {"kernel": normal(N, 4 * N), "bias": normal(4 * N)},
}
SIMPLE = {"i": {"kernel": normal(D, N), "bias": normal(N)}, "h": {"kernel": normal(N, N)}}
FLAX_GRU = {
    "dense_i": {"kernel": normal(D, 3 * N), "bias": normal(3 * N)},
    "dense_h": {"kernel": normal(N, 3 * N)},
}
door(
    "weights.flax_lstm",
    {"weights": FLAX, "phi": jnp.tanh},
    weights=[*MAPPINGS, SIMPLE],
    phi=FUNCTION,
)
door("weights.flax_gru", {"weights": FLAX_GRU}, weights=[*MAPPINGS, SIMPLE])
door(
    "weights.flax_simple",
    {"weights": SIMPLE, "phi": jnp.tanh},
    weights=[*MAPPINGS, FLAX],
    phi=FUNCTION,
)


def columns(gates, *bias):
    """As Keras keeps them."""
    return [normal(D, gates * N), normal(N, gates * N), normal(*bias, gates * N)]


for name, good in (
    ("simple", columns(1)),
    ("lstm", columns(4)),
    ("gru", columns(3, 2)),
    ("gru_reset_before", columns(3)),
):
    wrong = [*MAPPINGS, columns(5), good[:1], [a.T for a in good], [*good[:2], "x"]]
    door(f"weights.keras_{name}", {"weights": good}, weights=wrong)
EQUINOX = {"weight_ih": normal(4 * N, D), "weight_hh": normal(4 * N, N), "bias": normal(4 * N)}
EQUINOX_GRU = wide(3) | {"bias": normal(3 * N), "bias_n": normal(N)}
door("weights.equinox_lstm", {"cell": EQUINOX}, cell=[*MAPPINGS, wide(3)])
door("weights.equinox_gru", {"cell": EQUINOX_GRU}, cell=[*MAPPINGS, EQUINOX])
HAIKU = {"w": normal(D + N, 4 * N), "b": normal(4 * N)}
HAIKU_GRU = {"w_i": normal(D, 3 * N), "w_h": normal(N, 3 * N), "b": normal(3 * N)}
HAIKU_VANILLA = {"linear": {"w": normal(D, N), "b": normal(N)}, "linear_1": {"w": normal(N, N)}}
door(
    "weights.haiku_lstm",
    {"params": HAIKU},
    params=[*MAPPINGS, {"w": HAIKU["w"].T, "b": HAIKU["b"]}],
)
door("weights.haiku_gru", {"params": HAIKU_GRU}, params=[*MAPPINGS, HAIKU])
door("weights.haiku_vanilla", {"params": HAIKU_VANILLA}, params=[*MAPPINGS, HAIKU])

door("cells.named", {"name": "gru"}, name=[None, 3, "grru", ""])
door(
    "cells.vanilla.elman cells.lstm.long_short cells.gru.with_candidate",
    {"phi": jnp.tanh},
    phi=[*FUNCTION, jax.nn.softmax],
)
door(
    "cells.antisymmetric.euler cells.antisymmetric.euler_gated",
    {"eps": 0.1, "gamma": 0.1},
    eps=POSITIVE,
    gamma=[*NUMBER, -1.0],
)
door(
    "cells.cornn.oscillators",
    {"dt": 0.1, "gamma": 1.0, "epsilon": 1.0},
    dt=POSITIVE,
    gamma=POSITIVE,
    epsilon=POSITIVE,
)
door("cells.highway.deep", {"L": 2}, L=COUNT)
door("cells.jordan.outputs", {"cell": cells.jordan.cell, "m": 2}, m=COUNT, cell=[*RECURRENCE, CELL])
JORDAN = cells.jordan.Params(normal(N, N), normal(D, N), normal(N), normal(N, N))
door(
    "cells.jordan.output cells.jordan.logits",
    {"params": JORDAN, "h": H},
    params=[None, 3, PARAMS],
    h=[None, "h", normal(7)],
)
door(
    "cells.jordan.taught",
    {"params": JORDAN, "xs": XS, "ys": HS},
    params=[None, 3, PARAMS],
    xs=[None, "x", 3, XS[:, :2], XS[0], XS.astype(int)],
    ys=[None, "y", 3, HS[:2], XS],
)
door("cells.leaky.fixed", {"alpha": 0.5}, alpha=[*POSITIVE, 1.5])
MEDIUM = {
    "shape": (3, 3),
    "sources": ((0, 1),),
    "probes": ((1, 1),),
    "dt": 0.5,
    "h": 1.0,
    "c0": 1.0,
    "c1": 0.5,
    "border": 1,
    "sigma": 1.0,
    "steepness": 2.0,
}
SMALL = cells.wave.Medium(**MEDIUM)
MEDIA = [None, 3, "x", (3, 3)]
PIXELS = [None, 3, "x", ((9, 0),), ((0.5, 1),), ((0, 1, 2),)]
door(
    "cells.wave.Medium",
    MEDIUM,
    shape=[None, 3, (3,), (0, 3), (1.5, 3), "ab"],
    sources=PIXELS,
    probes=PIXELS,
    border=INDEX,
    dt=POSITIVE,
    h=POSITIVE,
    steepness=POSITIVE,
    c0=[*NUMBER, np.inf],
    c1=[*NUMBER, np.inf],
    sigma=[*NUMBER, np.inf],
)
door("cells.wave.linear", {"medium": SMALL}, medium=MEDIA)
door(
    "cells.wave.saturable",
    {"medium": SMALL, "b0": 0.1, "y0": 1.0},
    medium=MEDIA,
    b0=[*NUMBER, -1.0],
    y0=POSITIVE,
)
door(
    "cells.wave.project", {"rho": normal(9), "steepness": 2.0}, rho=NUMBERS[:2], steepness=POSITIVE
)
door(
    "cells.wave.neighbours",
    {"medium": SMALL, "field": normal(9), "mode": "edge"},
    medium=MEDIA,
    field=[None, "x", normal(7)],
    mode=["x", None, 3],
)
door(
    "cells.wave.blur", {"medium": SMALL, "rho": normal(9)}, medium=MEDIA, rho=[None, "x", normal(7)]
)
door(
    "cells.wave.intensity",
    {"medium": SMALL, "hs": normal(T, 9)},
    medium=MEDIA,
    hs=[None, "x", normal(T, 7)],
)
MIN = cells.mingru.Params(normal(D, 2 * N), normal(2 * N))
MINL = cells.minlstm.Params(normal(D, 3 * N), normal(3 * N))
IN_PARALLEL = {
    "xs": [None, "x", 3, XS[:0], XS[:, :2], XS.astype(int)],
    "state": ["h", 3, normal(7)],
}
door(
    "cells.mingru.parallel",
    {"params": MIN, "xs": XS, "state": H},
    params=[None, 3, PARAMS, MINL],
    **IN_PARALLEL,
)
door(
    "cells.minlstm.parallel",
    {"params": MINL, "xs": XS, "state": H},
    params=[None, 3, PARAMS, MIN],
    **IN_PARALLEL,
)

# what takes anything, what the functions above are made of, and a linen module, which is looked at
# when it is initialised
door(
    "cells.names scan.describe scan.inside scan.or_nan scan.known_present hidden "
    "theory.closed.fourth_moment cells.vanilla.identity flax.cells.Linen flax.cells.LinenCell",
    {},
)
