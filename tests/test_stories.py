"""The pages that take a network from elsewhere to a picture are run as they stand.

What they compute is compared with what the library computed, or with the formulas of its program.
Two take a network that others published, which is fetched once, as data sets are.
"""

import re
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest

from experiments import data
from recur import scan

matplotlib.use("Agg")
STORIES = Path(__file__).parent.parent / "docs" / "stories"
BLOCK = re.compile(r"```(?:\{code-cell\} )?python\n(.*?)```", re.DOTALL)


def told(page, monkeypatch, tmp_path, upto=None):
    """What the blocks of a page leave behind, up to the one that has these words."""
    for stored in STORIES.glob("*.npz"):
        (tmp_path / stored.name).write_bytes(stored.read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in BLOCK.findall((STORIES / page).read_text()):
        if upto is not None and upto in block:
            return names
        with jax.numpy_dtype_promotion("standard"):  # as users have it
            exec(compile(block, page, "exec"), names)
    matplotlib.pyplot.close("all")
    return names


@pytest.fixture
def run(monkeypatch, tmp_path):
    return lambda page, upto=None: told(page, monkeypatch, tmp_path, upto)


@pytest.mark.long  # 400 updates, one call each
def test_flax_learns_to_see_the_first_number(run):
    names = run("flax.md")
    assert np.mean(names["losses"][-50:]) < 0.01  # a third for who says 0
    with jax.numpy_dtype_promotion("standard"):
        before, after = (
            np.asarray(names["reach"](names[name].rnn))[:, 0] for name in ("before", "model")
        )
    assert after[9] > after[1:9].max() + np.log(5)
    assert before[9] < before[0] - np.log(100)
    np.testing.assert_allclose(names["hs"], names["theirs"], atol=1e-6)  # float32


@pytest.mark.slow
def test_equinox_holds_two_bits_in_four_stable_points(run):
    names = run("equinox.md")
    np.testing.assert_allclose(names["hs"], names["arrays"]["hs"], atol=1e-6)  # float32
    stable, bits = np.asarray(names["about"].stable), names["bits"]
    assert (stable.sum(), (~stable).sum()) == (4, 5)
    assert {tuple(row) for row in np.sign(bits[stable]).tolist()} == {
        (a, b) for a in (1.0, -1.0) for b in (1.0, -1.0)
    }
    np.testing.assert_allclose(np.abs(bits[stable]), 1, atol=0.05)
    unstable = (np.abs(names["about"].eigenvalues) > 1).sum(axis=1)
    assert sorted(unstable[~stable]) == [1, 1, 1, 1, 2]
    still = np.asarray(names["kept"].states)
    np.testing.assert_allclose(names["body"](still, np.zeros((9, 2), "f"))[0], still, atol=1e-5)


@pytest.mark.slow
def test_keras_looks_at_the_cue(run):
    names = run("keras.md")
    np.testing.assert_allclose(names["hs"], names["arrays"]["hs"], atol=1e-6)  # float32
    by_number, by_cue, cue = names["by_number"], names["by_cue"], names["cue"]
    assert by_number[cue] > 10 * np.delete(by_number, cue)[:30].max()
    logs = np.asarray(names["logs"])[::-1]  # by step, the largest first; of two numbers
    both = np.stack([by_number, by_cue])
    assert (np.exp(logs[:, 0]) > 0.999 * both.max(axis=0)).all()
    assert (np.exp(logs[:, 1]) < 1.001 * both.min(axis=0)).all()
    total = np.exp(2 * logs).sum(axis=1)
    np.testing.assert_allclose(total, (both**2).sum(axis=0), rtol=1e-3)  # float32, 40 steps


@pytest.mark.slow
def test_haiku_forgets_its_start(run):
    names = run("haiku.md")
    np.testing.assert_allclose(names["hs"][:100], names["arrays"]["hs"], atol=1e-6)  # float32
    found = names["found"]
    assert (np.asarray(found.exponents) < -20 * np.asarray(found.error)).all()
    body, start, xs = names["body"], names["start"], names["xs"][:300]

    def far(c):
        """How far apart two states end that begin at distance 1e-3."""
        ends = [
            jax.jit(lambda s: jax.lax.scan(body, s, xs)[0].c)(start._replace(c=start.c + 0.1 + d))
            for d in (0, c)
        ]
        return np.linalg.norm(ends[1] - ends[0])

    assert far(1e-3) < 1e-5


@pytest.mark.slow
def test_torch_sees_in_both_directions(run):
    names = run("torch.md")
    arrays = names["arrays"]
    np.testing.assert_allclose(names["said"], arrays["logits"], atol=5e-6)  # of order 10
    np.testing.assert_allclose(names["jacobian"], arrays["jacobian"], atol=5e-5)  # of order 10
    before, after = np.abs(names["jacobian"][3, 8:, 1]).max(), np.abs(arrays["jacobian"]).max()
    assert 0 < before < after
    np.testing.assert_array_equal(names["said"] > 0, arrays["between"] > 0.5)


def network():
    """A published network, or a skip where it is neither in the cache nor to be had."""
    try:
        return data.spelling_network(), data.voice_network()
    except ConnectionError as error:
        pytest.skip(str(error))


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def spelt(arrays, letters, phones, word):
    """The steps of g2p_en/g2p.py, in NumPy."""

    def gru(x, h, part):
        a = arrays[f"{part}_w_ih"] @ x + arrays[f"{part}_b_ih"]
        b = arrays[f"{part}_w_hh"] @ h + arrays[f"{part}_b_hh"]
        (ar, az, an), (br, bz, bn) = np.split(a, 3), np.split(b, 3)
        r, z = sigmoid(ar + br), sigmoid(az + bz)
        return (1 - z) * np.tanh(an + r * bn) + z * h

    h, said, last = np.zeros(256, "f"), [], phones.index("<s>")
    for letter in [*word, "</s>"]:
        h = gru(arrays["enc_emb"][letters.index(letter)], h, "enc")
    for _ in range(20):
        h = gru(arrays["dec_emb"][last], h, "dec")
        last = int((arrays["fc_w"] @ h + arrays["fc_b"]).argmax())
        if phones[last] == "</s>":
            break
        said.append(phones[last])
    return " ".join(said)


@pytest.mark.slow
def test_a_leaky_network_decides_along_the_unstable_direction_of_a_saddle(run):
    names = run("decision.md")
    about, kept, saddle, growing = (names[k] for k in ("about", "kept", "saddle", "growing"))
    assert np.sum(about.stable) == 2
    assert len(about.stable) == 3
    body, n = names["body"], names["n"]
    value = about.eigenvalues[saddle, growing].real
    np.testing.assert_allclose(
        about.timescales[saddle, growing], names["dt"] / np.log(value), rtol=1e-6
    )
    rate = kept.states[saddle]  # by running it: a pulse of evidence, then silence
    for step in range(10):
        rate, _ = body(rate, (np.zeros(n, "f"), np.float32(1e-2 if step == 0 else 0)))
    z = (np.asarray(rate) - np.asarray(kept.states[saddle])) @ names["left"]
    np.testing.assert_allclose(z, 1e-2 * names["push"] * value**9, rtol=0.02)  # what is not linear
    sides = np.asarray(names["z"] > 0) == np.asarray(names["said"] > 0)
    assert sides[9].mean() < sides[24].mean() < sides[49].mean()
    assert sides[49].mean() > 0.95


@pytest.mark.slow
def test_a_published_network_spells_as_its_own_program_does(run):
    network()
    names = run("spelling.md", "internationalization")
    for word, said in names["spoken"].items():
        assert said == spelt(names["arrays"], names["LETTERS"], names["PHONES"], word)
    assert names["spoken"]["gradient"] == "G R EY1 D IY0 AH0 N T"  # as the page says
    assert len(names["spoken"]) == 6


@pytest.mark.long
def test_the_page_of_spelling_is_run_to_its_end(run):
    network()
    names = run("spelling.md")
    with jax.enable_x64(True):
        encoder, xs = (
            jax.tree.map(lambda a: np.asarray(a, float), names[name]) for name in ("encoder", "xs")
        )
        J = jax.jit(jax.jacrev(lambda xs: scan.run(names["cell"], encoder, xs)[0]))(xs)
    for lag, row in zip(names["lags"], names["logs"], strict=True):
        expected = np.linalg.svd(J[:, len(J[0]) - 1 - lag], compute_uv=False)[0]
        np.testing.assert_allclose(np.exp(row[0]), expected, rtol=1e-3)  # float32, 20 steps
    assert (np.asarray(names["points"].outcome) == 1).all()  # slow


@pytest.mark.slow
def test_a_published_network_hears_what_it_hears_in_torch(run):
    network()
    names = run("voices.md", "openness")
    np.testing.assert_allclose(names["voice"], names["theirs"], atol=2e-5)  # float32, 175 steps
    first, last = np.asarray(names["voice"])[32:44], np.asarray(names["voice"])[-31:]
    assert first.max() > 0.9
    assert last.max() < 0.05


@pytest.mark.long
def test_the_page_of_voices_is_run_to_its_end(run):
    network()
    found = run("voices.md")["found"]
    assert abs(found.exponents[0]) < 2 * found.error[0]  # cannot be told from 0


def test_an_lstm_of_a_safetensors_file():
    """A header in JSON, then bytes; and what is no such file."""
    import json
    import struct

    arrays = {"b.weight": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.array([1, -2], "<i8")}
    body, header = b"", {"__metadata__": {"format": "pt"}}
    for name, a in arrays.items():
        dtype = {"f": "F32", "i": "I64"}[a.dtype.kind]
        ends = [len(body), len(body) + a.nbytes]
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": ends}
        body += a.tobytes()
    text = json.dumps(header).encode()
    raw = struct.pack("<Q", len(text)) + text + body
    found = data.safetensors(raw)
    assert found.keys() == arrays.keys()
    for name, a in arrays.items():
        np.testing.assert_array_equal(found[name], a)
    for wrong in (raw[:-1], b"", raw[:40], raw.replace(b"F32", b"F8!"), b"\x00" * 30):
        with pytest.raises(ValueError, match="not a safetensors file"):
            data.safetensors(wrong)
