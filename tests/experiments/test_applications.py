"""The experiments on real tasks, at toy size, against the claims in their docstrings."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from killing import require_resumed

from experiments import classify, data, forecast, harness, recommender
from experiments.parts import ranking
from recur import cells, scan
from recur.flax.models import Tagger


@pytest.fixture
def record(tmp_path):
    return harness.Record(tmp_path)


def filled(make):
    """What this makes, with numbers from NumPy in place of its draw, which would be compiled."""
    numbers = np.random.default_rng(0)
    fill = lambda a: (numbers.normal(size=a.shape) / 2).astype(a.dtype)  # noqa: E731
    return jax.tree.map(fill, jax.eval_shape(make))


# --- rankings -------------------------------------------------------------------------------------

HISTORIES = data.Histories(
    [np.array(items, np.int32) for items in ([0, 1, 2, 3, 4, 5], [2, 1, 0, 3], [5, 4, 3, 1, 0])], 7
)


def test_packed_histories_are_those_of_the_users():
    packed = jax.tree.map(np.asarray, ranking.pack(HISTORIES, longest=5))
    assert packed.items.shape == (4, 3)  # 4 + 4 + 3 steps do not share rows of 4
    assert (packed.part > 0).sum() == 11
    for user, (end, row) in enumerate(packed.ends.tolist()):
        items = HISTORIES.items[user][-5:]
        begin = end - len(items) + 2
        steps = slice(begin, end + 1)
        assert packed.items[steps, row].tolist() == items[:-1].tolist()
        assert packed.targets[steps, row].tolist() == items[1:].tolist()
        assert packed.part[steps, row].tolist()[-2:] == [ranking.VALIDATE, ranking.TEST]
        assert (packed.part[begin : end - 1, row] == ranking.TRAIN).all()
        assert packed.reset[steps, row].tolist() == [True] + [False] * (len(items) - 2)
        for part, left in ((0, 2), (1, 1)):
            seen = np.flatnonzero(packed.seen[part, user]).tolist()
            assert seen == sorted(HISTORIES.items[user][:-left].tolist())  # older than the cut too
    assert ranking.pack(HISTORIES, longest=10).items.shape == (5, 3)
    assert ranking.pack(HISTORIES._replace(items=HISTORIES.items[1:] * 2), 10).items.shape == (4, 4)
    with pytest.raises(ValueError, match=r"user 0 has 3 items, .* make 4"):
        ranking.pack(HISTORIES._replace(items=[np.arange(3)]), 10)


def test_rates_are_those_of_a_sorted_list():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 40)).astype(np.float32)
    items = rng.integers(40, size=50)
    seen = rng.random((50, 40)) < 0.3
    seen[np.arange(25), items[:25]] = False  # the others have been chosen before
    rate = jax.jit(ranking.rate)
    found = rate(scores, items, seen, scores)
    ranks = []
    for own, row, known in zip(items, scores, seen, strict=True):
        unseen = [item for item in np.argsort(-row) if item == own or not known[item]]
        ranks.append(unseen.index(own) + 1)
    ranks = np.array(ranks)
    inside = ranks <= 20
    assert 0 < inside.sum() < 50
    expected = [
        inside.mean(),
        (1 / ranks).mean(),
        (inside / np.log2(ranks + 1)).mean(),
        scores[np.arange(50), items].mean(),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    level = rate(np.zeros_like(scores), items, np.zeros_like(seen), np.zeros_like(scores))
    assert float(np.asarray(level)[1]) == pytest.approx(
        1 / 20.5
    )  # the middle of 40 equals, and no better


def test_the_rates_of_nan_are_nan():
    """A rank that counts what is better finds nothing better than NaN."""
    scores = np.zeros((2, 3, 4), np.float32)
    scores[1, 0, 2] = np.nan
    rate = jax.jit(ranking.rate)
    rates = rate(scores, np.zeros((2, 3), int), np.zeros((2, 3, 4), bool), np.zeros_like(scores))
    assert np.isnan(rates).all(axis=-1).tolist() == [False, True]


def test_item_knn_is_the_sum_of_cosines(monkeypatch):
    packed = jax.tree.map(np.asarray, ranking.pack(HISTORIES, 10))
    monkeypatch.setattr(ranking, "NEIGHBOURS", (100,))
    monkeypatch.setattr(ranking, "rate", jax.jit(ranking.rate))
    scores, k, forgetting = ranking.neighbours(HISTORIES, packed, (0.5,))
    assert (k, forgetting) == (100, 0.5)
    scores = np.asarray(scores)
    users = [set(items[:-2].tolist()) for items in HISTORIES.items]
    for user, items in enumerate(HISTORIES.items):
        for candidate in range(7):
            total = 0.0
            for age, item in enumerate(items[:-1][::-1].tolist()):
                both = sum(item in one and candidate in one for one in users)
                each = [sum(i in one for one in users) for i in (item, candidate)]
                if item != candidate and both:
                    total += 0.5**age * both / np.sqrt(each[0] * each[1])
            assert float(scores[1, user, candidate]) == pytest.approx(total, abs=1e-6)
    counts = np.bincount([1, 2, 3, 1, 4, 3], minlength=7)  # the training targets
    popularity = jax.jit(lambda: ranking.popularity(packed, 7))()
    np.testing.assert_allclose(np.exp(popularity), (counts + 1) / 13, rtol=1e-5)


# --- the recommender ------------------------------------------------------------------------------


@pytest.fixture
def ratings(tmp_path):
    """80 users who each walk a circle of 60 films in steps of 7 from a start of their own."""
    rng, lines = np.random.default_rng(0), ["user\titem\trating\ttime"]
    for user in range(80):
        start, steps = rng.integers(60), rng.integers(8, 20)
        lines += [f"{user}\t{(start + 7 * t) % 60}\t1\t{t}" for t in range(steps)]
    path = tmp_path / "ratings.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def toy(ratings, **changes):
    config = recommender.Config(
        ratings=ratings,
        cells=("minimal",),
        like="minimal",
        n=12,
        seeds=2,
        rows=16,
        longest=12,
        updates=60,
        every=20,
        learning_rate=0.02,
        rounds=1,
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.slow
def test_a_user_is_predicted_as_if_alone(ratings):
    histories = data.histories(ratings)
    packed = ranking.pack(histories, 12)
    model = recommender.Recommender(cells.gru.cell, jnp.zeros(60), 8, 8, rngs=nnx.Rngs(0))
    logits = recommender.predict(model, packed)
    for user in (0, 7, 79):
        items = jnp.asarray(histories.items[user][-12:])
        language = model.model
        xs = language.embed(items[:-1]) * 8**0.5
        hs = scan.run(language.rnn.cell, language.rnn.values, xs)[1]
        alone = language.project(hs) @ language.embed.embedding[...].T
        np.testing.assert_allclose(logits[1, user], alone[-1], atol=1e-5)  # float32, values ~ 1
        np.testing.assert_allclose(logits[0, user], alone[-2], atol=1e-5)


@pytest.mark.slow
def test_the_recommender_beats_both_baselines(ratings, tmp_path, record):
    result = recommender.run(toy(ratings), record)
    assert (result.scores[..., 2] > result.baselines[:2, 2].max()).all()  # NDCG
    assert (result.scores[..., 0] > result.baselines[0, 0]).all()  # Recall: kNN may have all
    assert (result.losses[..., -1] < result.losses[..., 0]).all()
    assert (result.norms > 0).all()
    assert (result.diverged == -1).all()
    assert result.seconds.min() > 0
    assert result.widths.tolist() == [[12], [12]]  # equal by equal parameters with itself
    figure, rows = recommender.plot(result), recommender.table(result)
    assert [row[0] for row in rows.rows] == [*recommender.BASELINES, "minimal", "minimal"]
    harness.save(tmp_path, result, figure, rows)


@pytest.mark.long
def test_a_killed_recommender_resumes_to_the_same_end(ratings, tmp_path):
    config = toy(ratings, updates=40)
    packed = ranking.pack(data.histories(ratings), config.longest)
    require_resumed(
        lambda record: recommender.fit("minimal", 12, packed, config, record),
        tmp_path,
    )


def test_a_network_stops_when_it_gets_no_better():
    nan = np.nan
    curves = np.array([[0.1, 0.3, 0.2, 0.2], [0.1, 0.2, 0.3, 0.2], [0.3, 0.2, 0.1, nan], [nan] * 4])
    assert recommender.stale(curves, 2).tolist() == [True, False, True, False]


def test_a_recommender_refuses_bad_flags():
    with pytest.raises(ValueError, match="did you mean 'gru'"):
        recommender.Config(cells=("grru",))
    with pytest.raises(ValueError, match=r"every \(7\) must divide updates"):
        recommender.Config(every=7)
    with pytest.raises(ValueError, match="4 items or more, got longest=3"):
        recommender.Config(longest=3)
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        recommender.Config(dropout=1.0)


# --- speakers -------------------------------------------------------------------------------------


@pytest.fixture
def signals(tmp_path):
    """Two channels of 4 to 9 steps: equal means, but one class rises and the other falls."""
    rng = np.random.default_rng(1)
    for part, count in (("TRAIN", 40), ("TEST", 30)):
        lines = ["@data"]
        for i in range(count):
            t = np.linspace(-1, 1, rng.integers(4, 10)) * (1 if i % 2 else -1)
            channels = [t, rng.normal(size=len(t))]
            texts = [",".join(f"{value:.3f}" for value in channel) for channel in channels]
            lines.append(":".join([*texts, "up" if i % 2 else "down"]))
        (tmp_path / f"Toy_{part}.ts").write_text("\n".join(lines))
    return tmp_path


def speakers(signals, **changes):
    config = classify.Config(
        data_dir=signals,
        cells=("minimal",),
        n=8,
        seeds=2,
        updates=60,
        every=20,
        batch=20,
        learning_rate=0.02,
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.slow
def test_classify_hears_what_a_mean_cannot(signals, tmp_path, record):
    result = classify.run(speakers(signals), record)
    assert (result.accuracies[..., -1] > 0.9).all()
    assert result.linear < 0.8  # the means of both classes are equal
    np.testing.assert_array_equal(result.heard[..., -1], result.accuracies[..., -1])
    assert (result.heard[..., 0] <= result.heard[..., -1]).all()
    assert result.confusion.sum(axis=(1, 2)).tolist() == [60]
    right = np.trace(result.confusion, axis1=1, axis2=2) / 60
    np.testing.assert_allclose(right, result.accuracies[..., -1].mean(axis=1), atol=1e-6)  # float32
    harness.save(tmp_path, result, classify.plot(result), classify.table(result))


def test_a_signal_in_a_batch_is_heard_as_if_alone(signals):
    found = data.japanese_vowels(signals)
    _, test = classify.standardised(found)

    def models():
        return [
            classify.Classifier(cells.gru.cell, 2, 8, 2, pool=pool, rngs=nnx.Rngs(0))
            for pool in classify.POOLS.values()
        ]

    @jax.jit
    def everything(models, xs):
        alone = [[model(xs[: int(lengths[i]), i]) for i in (0, 5)] for model in models]
        return [model(xs, lengths) for model in models], alone

    lengths = np.asarray(test.lengths)
    together, alone = jax.tree.map(np.asarray, everything(filled(models), test.xs))
    for heard, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(heard[[0, 5]], expected, atol=1e-6)  # float32, values ~ 1


@pytest.mark.long
def test_a_killed_classifier_resumes_to_the_same_end(signals, tmp_path):
    config = speakers(signals, cells=("minimal",), updates=40)
    require_resumed(partial(classify.run, config), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("cell", ["minimal", "gru"])
def test_japanese_vowels_are_recognised(cell, record):
    config = classify.Config(cells=(cell,), seeds=1)
    result = classify.run(config, record)
    assert (result.accuracies[..., -1].mean(axis=1) > 0.95).all()
    assert float(result.linear) == pytest.approx(0.968, abs=0.002)  # no randomness in it


# --- forecasts ------------------------------------------------------------------------------------


def test_the_autoregression_finds_the_order_and_the_coefficients():
    rng = np.random.default_rng(0)
    xs = np.zeros(3000)
    for t in range(2, 3000):
        xs[t] = 0.3 + 1.2 * xs[t - 1] - 0.6 * xs[t - 2] + 0.1 * rng.normal()
    a = forecast.regress(xs, 10)
    assert len(a) - 1 in (2, 3, 4)  # AIC is not consistent: it may take a few too many
    np.testing.assert_allclose(a[:3], [0.3, 1.2, -0.6], atol=0.06)  # 3 / sqrt(3000)
    ahead = forecast.extrapolate(np.array([0.3, 1.2, -0.6]), xs, np.array([50, 80]), 3)
    past = [xs[79], xs[80]]
    for _ in range(3):
        past.append(0.3 + 1.2 * past[-1] - 0.6 * past[-2])
    np.testing.assert_allclose(ahead[:, 1], past[2:])


def test_free_running_feeds_each_forecast_back():
    xs = np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32)

    @jax.jit
    def both(model, xs):
        known = xs[:21]
        for _ in range(4):
            known = jnp.concatenate([known, model(known)[-1:]])
        return forecast.free(model, xs, np.array([10, 20]), 4)[:, 1], known[21:, 0]

    model = filled(lambda: Tagger(cells.lstm.cell, 1, 6, 1, rngs=nnx.Rngs(0)))
    np.testing.assert_allclose(*both(model, xs), atol=1e-5)  # float32, values ~ 1


@pytest.fixture
def wave(tmp_path):
    """A wave that a network can learn and persistence cannot."""
    t = np.arange(160)
    path = tmp_path / "wave.csv"
    rows = np.stack([t, (3 + 2 * np.sin(2 * np.pi * t / 9)) ** 2], axis=1)
    np.savetxt(path, rows, delimiter=",", header="t,x", comments="")
    return path


def waves(wave, **changes):
    config = forecast.Config(
        series=wave,
        cells=("minimal",),
        n=12,
        seeds=2,
        test=30,
        validation=20,
        ahead=5,
        orders=6,
        updates=200,
        every=20,
        learning_rate=0.02,
        noise=0.02,
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.slow
def test_a_wave_is_foreseen(wave, tmp_path, record):
    result = forecast.run(waves(wave), record)
    errors = forecast.rmse(result.forecasts, result.truth)  # (1, S, H)
    others = forecast.rmse(result.baselines, result.truth)
    assert (errors[..., 0] < 0.5 * others[0, 0]).all()  # persistence
    assert (errors[..., -1] < 0.8 * others[:2, -1].min()).all()  # and the mean
    assert others[2].max() < 1e-2  # a pure wave is an autoregression of order 2; float32 inputs
    assert result.truth.shape == (5, 26)
    np.testing.assert_array_equal(result.truth[:, 0], result.values[130:135])
    np.testing.assert_array_equal(result.baselines[0, :, 3], result.values[132])
    harness.save(tmp_path, result, forecast.plot(result), forecast.table(result))


@pytest.mark.long
def test_a_killed_forecast_resumes_to_the_same_end(wave, tmp_path):
    config = waves(wave, updates=40)
    require_resumed(partial(forecast.run, config), tmp_path)


def test_a_series_too_short_is_refused(wave, record):
    with pytest.raises(ValueError, match="leave too few for orders up to 60"):
        forecast.run(waves(wave, orders=60), record)
    with pytest.raises(ValueError, match=r"ahead \(40\) must lie between 0 and test"):
        waves(wave, ahead=40)
