"""Language models and n-grams at toy size, against formulas and texts whose entropy is known."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from killing import require_resumed

from experiments import data, harness, language_model
from experiments.parts import next_symbol as net
from experiments.parts import ngram
from recur import scan

# --- the n-gram model -----------------------------------------------------------------------------


def test_ngram_probabilities_sum_to_one():
    """For every context: known, unknown and half known, and at orders of well-defined discounts."""
    rng, V = np.random.default_rng(0), 7
    text = rng.choice(V, size=400, p=np.arange(V) / 21)  # symbol 0 never occurs
    for order in (1, 2, 4):
        model = ngram.fit(text, V, order)
        for context in itertools.product((0, 1, 5, 6), repeat=3):
            p = [
                np.exp(ngram.log_probabilities(model, np.array([*context, w]), V)[-1])
                for w in range(V)
            ]
            assert min(p) > 0
            assert sum(p) == pytest.approx(1)


def test_a_bigram_by_hand():
    """a b a c a b: p(b | a) of absolute discounting; too short for discounts of its own."""
    a, b, c = 0, 1, 2
    model = ngram.fit(np.array([a, b, a, c, a, b]), 3, 2)
    # before a come b, c; before b, a; before c, a: 4 different bigrams, and counts of 2, 1, 1.
    # discounts 1, .5, .5 of 4 leave 2 of 4 for the uniform third
    lower = {a: 1 / 4 + 1 / 2 / 3, b: 0.5 / 4 + 1 / 2 / 3, c: 0.5 / 4 + 1 / 2 / 3}
    # a b twice, discount 1; a c once, discount .5; in all 3 after a
    expected = (2 - 1) / 3 + 1.5 / 3 * lower[b]
    p = np.exp(ngram.log_probabilities(model, np.array([a, b]), 3))
    np.testing.assert_allclose(p, [lower[a], expected], rtol=1e-12)
    # after c comes a alone, once
    p = np.exp(ngram.log_probabilities(model, np.array([c, a, a]), 3))
    np.testing.assert_allclose(p[1:], [0.5 + 0.5 * lower[a], 0.5 * 0 + 1.5 / 3 * lower[a]])
    with pytest.raises(ValueError, match=r"order from 1 to the 6 symbols .* order=7"):
        ngram.fit(np.array([a, b, a, c, a, b]), 3, 7)


@pytest.mark.slow
def test_the_5_gram_of_the_treebank():
    """Mikolov's thesis has 141.2 for KN5 on this text, with contexts that end at a sentence."""
    found = data.penn()
    model = ngram.fit(found.train, 10_000, 5)
    perplexity = np.exp(-ngram.log_probabilities(model, found.test, 10_000).mean())
    assert perplexity == pytest.approx(141.2, rel=0.01)


# --- the network ----------------------------------------------------------------------------------


def draw(name, n=4, layers=2, V=9, d=3, tied=True, scale=0.07):
    kind = net.Kind(name, layers, V, d, tied)
    return kind, jax.jit(lambda key: kind.draw(n, scale, key))(jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "layers", "tied", "biases"),
    [
        ("lstm", 1, True, (-1, 1)),
        pytest.param("vanilla", 1, True, (), marks=pytest.mark.slow),
        pytest.param("cfn", 2, False, (1, -1), marks=pytest.mark.slow),
        pytest.param("minimal", 1, True, (1,), marks=pytest.mark.slow),
    ],
)
def test_a_draw_is_counted_and_remembers(name, layers, tied, biases):
    """Biases open the gate that keeps and close the one that writes; all else is small."""
    kind, model = draw(name, layers=layers, tied=tied)
    assert kind.parameters(4) == sum(leaf.size for leaf in jax.tree.leaves(model))
    assert kind.width(kind.parameters(4) + 1) == 4
    assert net.table(model).shape == (9, 3)
    for params in model.rnn.values:
        b = np.asarray(params.b).reshape(-1, 4)
        np.testing.assert_array_equal(b[: len(biases)], np.repeat(biases, 4).reshape(-1, 4))
        assert np.abs(b[len(biases) :]).max(initial=0) <= 0.07
        assert 0.05 < np.abs(np.asarray(params.W)).max() <= 0.07


def reading(optimizer, V=9, samples=99, truncate=4, pieces=3, B=2):
    """A text of exactly so many pieces."""
    text = np.random.default_rng(1).integers(V, size=B * truncate * pieces + 1).astype(np.int32)
    log_q = jnp.log(jnp.bincount(text, length=V) / len(text))
    return net.Reading(net.stretches(text, B), truncate, optimizer, log_q, samples)


def test_stretches_share_their_ends():
    rows = net.stretches(np.arange(12), 2)
    assert rows.T.tolist() == [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 10]]


@pytest.mark.slow
def test_the_state_goes_on_and_gradients_do_not():
    """Pieces in turn are one pass of `truncated`, then again from the start state."""
    summed = optax.chain(optax.trace(1.0), optax.scale(0.0))  # adds up gradients, moves nothing
    how = reading(summed)
    _, model = draw("lstm", layers=1, scale=0.5)
    begun = net.start(model, how, jax.random.key(1))
    once, value = net.advance(how, begun, how.pieces)

    def whole(model):
        xs = model.embed(how.rows[:-1])
        hs = scan.truncated(model.rnn.cell, model.rnn.values, xs, truncate=how.truncate)[1]
        logits = model.project(hs) @ net.table(model).T
        return optax.softmax_cross_entropy_with_integer_labels(logits, how.rows[1:]).mean()

    expected, gradient = jax.jit(jax.value_and_grad(whole))(model)
    # float32 sums of 24 terms in another order
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    assert float(net.surprise(model, how.rows)) == pytest.approx(float(expected), rel=1e-5)
    for mine, true in zip(
        jax.tree.leaves(once.training.opt[0].trace), jax.tree.leaves(gradient), strict=True
    ):
        np.testing.assert_allclose(mine / how.pieces, true, rtol=1e-3, atol=1e-6)
    again, value = net.advance(how, once, how.pieces)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for mine, true in zip(jax.tree.leaves(again.state), jax.tree.leaves(once.state), strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-5)
    assert int(again.training.step) == 2 * how.pieces


def test_steps_have_the_length_that_decays():
    config = language_model.Config(
        rule="normalised", learning_rate=0.9, updates=100, every=50, steady=0.4, decays=3, batch=2
    )
    text = np.arange(100, dtype=np.int32)
    rule = language_model.reading(
        data.Text(text, text, text, list(map(str, text))), config
    ).optimizer
    gradient = {"W": np.full((3, 3), 7.0, np.float32), "b": np.full(3, -0.5, np.float32)}

    @jax.jit
    def updates(gradient):
        def update(state, _):
            change, state = rule.update(gradient, state)
            return state, (change, optax.tree.norm(change))

        return jax.lax.scan(update, rule.init(gradient), length=100)[1]

    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer powers
        change, lengths = jax.tree.map(np.asarray, updates(gradient))
    # Optax adds 1e-6 to |g| = 21
    at = (0, 39, 41, 59, 61, 79, 81, 99)
    expected = [0.9, 0.9, 0.3, 0.3, 0.1, 0.1, 0.1 / 3, 0.1 / 3]
    np.testing.assert_allclose(lengths[list(at)], expected, rtol=1e-4)
    assert all((change[name] * gradient[name] < 0).all() for name in gradient)


@pytest.mark.slow
def test_the_estimated_softmax_is_unbiased():
    """exp(loss) of one symbol is sum / e^own, linear in the estimated sum."""
    how = reading(optax.identity(), V=60, samples=20, truncate=200, pieces=5, B=1)
    _, model = draw("vanilla", layers=1, V=60, scale=1.0)
    symbols, state = how.rows[:2], model.rnn.cell.start(model.rnn.values, (1,))
    exact = jnp.exp(net.loss(model, state, symbols, how._replace(samples=60), jax.random.key(0))[0])
    one = jax.vmap(lambda key: jnp.exp(net.loss(model, state, symbols, how, key)[0]))
    found = np.asarray(one(jax.random.split(jax.random.key(1), 1000)))
    error = found.std() / np.sqrt(len(found))
    assert error < 0.05 * float(exact)
    assert abs(found.mean() - float(exact)) < 4 * error


def test_a_cold_network_writes_what_is_likeliest():
    _, model = draw("minimal", tied=False, scale=1.0)
    begin = np.array([3, 1, 4])
    write = jax.jit(lambda key, temperature: model.generate(key, begin, 6, temperature))
    found = write(jax.random.key(1), 1e-4).tolist()

    @jax.jit
    def read(symbols):
        _, features = net.features(model, symbols[:, None], None)
        return features @ net.table(model).T

    logits = np.asarray(read(np.array([*begin, *found])))[len(begin) - 1 : -1, 0]
    assert found == logits.argmax(axis=-1).tolist()  # each given all before it
    warm = [write(jax.random.key(k), 1.0).tolist() for k in (1, 2)]
    assert warm[0] != warm[1]


# --- the experiment -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A letter, five dashes and the letter again: no 5-gram sees from the one to the other."""
    letters = np.random.default_rng(0).choice(list("ab"), 1500)
    file = tmp_path_factory.mktemp("text") / "toy.txt"
    file.write_text("".join(f"{letter}-----{letter}" for letter in letters))
    return file


def toy(path, **changes):
    config = language_model.Config(
        level="characters",
        text=path,
        cells=("minimal", "lstm"),
        like="minimal",
        d=4,
        n=16,
        batch=10,
        truncate=14,
        updates=1200,
        every=400,
        learning_rate=0.02,
        steady=0.7,
        scale=0.3,
        write=14,
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    """Where it was made and what came out: one run for all tests that look at one."""
    place = tmp_path_factory.mktemp("trained")
    return place, language_model.run(toy(path), harness.Record(place / "whole"))


@pytest.mark.slow
def test_a_network_remembers_what_no_n_gram_sees(trained):
    """In 7 symbols an n-gram pays for two letters, and twice for whether four dashes are five.

    Who counts does not pay for the latter, and who remembers pays for one letter alone.
    """
    place, result = trained
    bits = result.test / np.log(2)
    assert result.ngram[1] / np.log(2) == pytest.approx(4 / 7, rel=0.03)  # of 1500 bits
    assert (bits < 0.7 * 4 / 7).all()
    assert (result.diverged == -1).all()
    assert abs(result.parameters[1] / result.parameters[0] - 1) < 0.1
    assert set(result.written[0]) == set("ab-")
    rows = language_model.table(result)
    harness.save(place, result, language_model.plot(result), rows)
    assert rows.columns[4] == "test bits per character"
    assert rows.rows[1][4] == f"{bits[0]:.4g}"


@pytest.mark.slow
def test_killed_and_resumed_ends_the_same(trained, path):
    """As the first network of the run that was not killed."""
    place, whole = trained
    config = toy(path, cells=("minimal",))
    require_resumed(partial(language_model.run, config), place, whole=whole)


def test_what_cannot_be_run_is_refused(path):
    for changes, message in (
        ({"updates": 100, "every": 30}, "every .30. must divide updates .100."),
        ({"truncate": 0}, "truncate must be 1 or more"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"steady": 1.5}, "steady must be a share"),
        ({"cells": ("ltsm",)}, "lstm"),
    ):
        with pytest.raises(ValueError, match=message):
            toy(path, **changes)
    with pytest.raises(ValueError, match="take a longer text or a smaller batch"):
        language_model.reading(data.text(path, "characters"), toy(path, batch=1000))
