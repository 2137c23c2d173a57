"""Checkpoints: what was saved comes back, from the newest that is whole."""

import resource
import shutil
import time
import warnings
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recur import checkpoint, train
from recur.checkpoint import Checkpoints, Mismatch, WriteError

OPTIMIZER = optax.adam(0.1)


def loss(params, batch):
    return jnp.sum((params["w"] - 2) ** 2 * (1 + batch**2))


def sample(key):
    return jax.random.normal(key, (3,))


def start(seed=0):
    return train.start(jax.random.key(seed), {"w": jnp.zeros(3)}, OPTIMIZER)


def advance(state, steps):
    return train.advance(loss, OPTIMIZER, sample, state, steps)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_a_restored_state_goes_on_to_the_same_end(tmp_path):
    half, _ = advance(start(), 5)
    with Checkpoints(tmp_path) as saved:
        assert saved.restore(start())[0] == 0
        saved.save(5, half)
    with Checkpoints(tmp_path) as saved:
        step, restored = saved.restore(start(99))
    assert step == 5
    same(half, restored)
    same(advance(half, 5)[0], advance(restored, 5)[0])


def test_the_newest_are_kept_and_clear_forgets(tmp_path):
    with Checkpoints(tmp_path, keep=2) as saved:
        for step in (1, 2, 3):
            saved.save(step, {"x": jnp.full(2, step, jnp.float32)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]
    with Checkpoints(tmp_path) as saved:
        assert saved.restore({"x": jnp.zeros(2)})[0] == 3
        saved.clear()
        assert saved.restore({"x": jnp.zeros(2)})[0] == 0


def test_another_configuration_is_refused_with_the_differences(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(7, {"w": jnp.zeros(3), "old": jnp.zeros(1)})
    with Checkpoints(tmp_path) as saved:
        with pytest.raises(Mismatch, match="step 7") as caught:
            saved.restore({"w": jnp.zeros(4), "new": jnp.zeros(1)})
        lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "  new: saved nothing, now float32[1]",
        "  old: saved float32[1], now nothing",
        "  w: saved float32[3], now float32[4]",
    ]


def test_another_origin_is_refused_with_both_values(tmp_path):
    first = {"steps": "3", "code": "0.1.0+aa", "gone": "1"}
    with Checkpoints(tmp_path, origin=first) as saved:
        saved.save(7, {"w": np.zeros(3)})
    with (
        Checkpoints(tmp_path, origin={"steps": "4", "code": "0.1.0+bb", "new": "1"}) as saved,
        pytest.raises(Mismatch) as caught,
    ):
        saved.restore({"w": np.zeros(3)})
    assert str(caught.value).splitlines()[1:] == [
        "  code: 0.1.0+aa then, 0.1.0+bb now",
        "  steps: 3 then, 4 now",
    ]
    for same_enough in (first, {"steps": "3"}, None):
        with Checkpoints(tmp_path, origin=same_enough) as saved:
            assert saved.restore({"w": np.zeros(3)})[0] == 7


def test_what_was_saved_last_is_restored_at_once(tmp_path):
    """A write on its way is waited for, and one that came too soon is made."""
    for seconds in (0, 1000):
        with Checkpoints(tmp_path / str(seconds), seconds=seconds) as saved:
            for step in (1, 2, 3):
                saved.save(step, {"x": jnp.full(1000, step)}, note=f"step {step}")
                if step > 1:
                    found, tree = saved.restore({"x": jnp.zeros(1000, int)})
                    assert (found, int(tree["x"][-1]), saved.note) == (step, step, f"step {step}")


# --- what can go wrong ----------------------------------------------------------------------------

TREE = {"w": np.arange(1000.0), "key": jax.random.key(3), "bits": jnp.ones(7, jnp.bfloat16)}


@pytest.fixture
def pair(tmp_path):
    """A folder with the whole checkpoints 7 and 9."""
    with Checkpoints(tmp_path / "pair") as saved:
        for step in (7, 9):
            saved.save(step, TREE | {"w": TREE["w"] + step})
    return tmp_path / "pair"


def test_every_kind_of_array_comes_back(pair):
    with Checkpoints(pair) as saved:
        step, tree = saved.restore(TREE)
    assert step == 9
    same(tree, TREE | {"w": TREE["w"] + 9})
    kinds = (np.ndarray, jax.Array, jax.Array)
    assert all(
        isinstance(tree[k], kind) for k, kind in zip(("w", "key", "bits"), kinds, strict=True)
    )


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)


# Orbax opens all arrays at once and forgets those still opening when one fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("harm", [halve, flip, lambda path: path.unlink()])
def test_no_damage_goes_unnoticed(pair, tmp_path, harm):
    """Whatever file of the newest is harmed: either all its numbers are right, or those before."""
    files = [path.relative_to(pair) for path in (pair / "9").rglob("*") if path.is_file()]
    fell_back = 0
    for number, path in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(pair, folder)
        harm(folder / path)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with Checkpoints(folder) as saved:
                step, tree = saved.restore(TREE)
        same(tree, TREE | {"w": TREE["w"] + step})
        if step == 7:
            fell_back += 1
            assert "step 9" in str(said[0].message)
            assert (folder / "damaged.9").is_dir()
    assert fell_back >= 2  # the numbers themselves, and what they are


def restored_with_a_flip(pair, folder, at):
    """What a copy of `pair` gives where one bit of this byte of its metadata is flipped."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pair, folder)
    path = folder / "9" / "_CHECKPOINT_METADATA"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << at % 7
    path.write_bytes(raw)
    with Checkpoints(folder) as saved:
        return saved.restore(TREE)


@pytest.mark.filterwarnings("ignore:the checkpoint of step 9:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_flipped_byte_of_the_metadata_is_no_other_configuration(pair, tmp_path, every):
    """Names, shapes, kinds and sums had no checksum: of 407 bytes, 31 led to a wrong message."""
    raw = (pair / "9" / "_CHECKPOINT_METADATA").read_bytes()
    named = [raw.index(word) for word in (b"bits", b"float64", b"1000", b"origin")]
    steps = []
    for at in range(len(raw)) if every else named:
        step, tree = restored_with_a_flip(pair, tmp_path / "flipped", at)
        same(tree, TREE | {"w": TREE["w"] + step})
        steps.append(step)
    assert set(steps) == ({7, 9} if every else {7})


def test_after_a_fall_back_the_same_step_is_saved_again(pair):
    shutil.rmtree(pair / "9" / "default")
    (pair / "damaged.9").write_text("of an earlier fall back, or anything")
    (pair / "11").symlink_to(pair / "7")
    with Checkpoints(pair) as saved:
        with pytest.warns(RuntimeWarning, match="is damaged and was renamed") as said:
            assert saved.restore(TREE)[0] == 7
        eleven, nine = (str(warning.message) for warning in said)
        assert "step 11" in eleven
        assert "it was saved as step 7" in eleven
        assert "step 9" in nine
        saved.save(9, TREE)
    with Checkpoints(pair) as saved:
        assert saved.restore(TREE)[0] == 9
        saved.clear()
    assert not list(pair.iterdir())


def test_all_damaged_is_a_new_start(pair):
    for step in ("7", "9"):
        shutil.rmtree(pair / step / "default")
    with Checkpoints(pair) as saved, pytest.warns(RuntimeWarning) as said:
        assert saved.restore(TREE)[0] == 0
    assert len(said) == 2


def test_clear_leaves_what_is_not_a_checkpoint(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with Checkpoints(tmp_path, seconds=1000) as saved:
        saved.save(1, {"x": jnp.zeros(2)})
        saved.save(2, {"x": jnp.zeros(2)})  # too soon: for the end of the block
        saved.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes"]


def test_a_step_is_saved_once(tmp_path):
    with Checkpoints(tmp_path, seconds=1000) as saved:
        saved.save(10, {"x": jnp.ones(100_000)})
        saved.save(10, {"x": jnp.ones(100_000)})  # in the loop, and once more after it
    with Checkpoints(tmp_path) as saved:
        assert saved.restore({"x": jnp.zeros(100_000)})[0] == 10
        with pytest.raises(ValueError, match=r"a step must be 1 or more, .*; got 0"):
            saved.save(0, {"x": jnp.zeros(2)})


def test_what_is_being_written_is_kept_where_the_last_save_fails(tmp_path):
    def block():
        with Checkpoints(tmp_path, seconds=1000) as saved:
            saved.save(10, {"x": jnp.ones(100_000)})
            saved.save(9, {"x": jnp.ones(100_000)})

    with pytest.raises(ValueError, match="step 9 must be newer"):
        block()
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


def test_saves_lie_seconds_apart(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Checkpoints(tmp_path, keep=9, seconds=10) as saved:
        for step, now in enumerate((100.0, 109.0, 111.0, 120.0, 121.0), start=1):  # noqa: B007
            saved.save(step, {"x": np.zeros(2)})
        monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "5"]


def test_the_last_state_is_saved_where_a_block_ends_well(tmp_path):
    def block(name, last):
        with Checkpoints(tmp_path / name, seconds=1000) as saved:
            for step in (1, 2, 3):
                saved.save(step, {"x": jnp.full(2, step)})
            last()
        return sorted(path.name for path in (tmp_path / name).iterdir())

    assert block("well", lambda: None) == ["1", "3"]
    with pytest.raises(KeyboardInterrupt):
        block("killed", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["1"]
    with Checkpoints(tmp_path / "given away", seconds=1000) as saved:
        saved.save(1, {"x": jnp.zeros(2)})
        late = jnp.ones(2)
        saved.save(2, {"x": late})
        late.delete()
    assert sorted(path.name for path in (tmp_path / "given away").iterdir()) == ["1"]


@pytest.mark.parametrize("steps", [[1], [1, 2]], ids=["at once", "too soon for that"])
def test_what_is_saved_may_change_at_once(tmp_path, steps):
    changing = np.zeros(100_000)
    with Checkpoints(tmp_path, seconds=1000) as saved:
        for step in steps:
            saved.save(step, {"x": changing})
        changing += 1
    with Checkpoints(tmp_path) as saved:
        step, tree = saved.restore({"x": changing})
    assert step == steps[-1]
    assert not tree["x"].any()


@pytest.mark.parametrize("step", [1.5, float("nan"), True, np.True_, np.float64(2), "3", None])
def test_a_step_that_is_no_integer_is_refused(tmp_path, step):
    """Orbax wrote it under a name that is never found again."""
    with (
        Checkpoints(tmp_path) as saved,
        pytest.raises(TypeError, match="a step must be an integer, 1 or more; got"),
    ):
        saved.save(step, {"x": np.zeros(2)})
    assert not list(tmp_path.iterdir())


ODD = {
    "big end first": {"x": np.arange(3, dtype=">f8"), "y": np.arange(3, dtype=">i2")},
    "size zero": {"x": np.zeros((0, 3)), "y": jnp.zeros((2, 0), jnp.bfloat16), "z": np.ones(1)},
    "nothing else": {"nothing": np.zeros((0, 3))},
    "no array": {"x": {}, "y": None},
    "alike": {"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "c": [np.ones(2)], "c.0": np.ones(3)},
    "strange names": {"": np.ones(1), "..": np.ones(2), "/a": np.ones(3), "b\n": np.ones(4)},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_and_names_come_back(tmp_path, name):
    tree = ODD[name]
    with Checkpoints(tmp_path) as saved:
        saved.save(np.int64(1), tree)
    with Checkpoints(tmp_path) as saved:
        step, found = saved.restore(
            jax.tree.map(lambda a: np.full_like(a, 7) if isinstance(a, np.ndarray) else a, tree)
        )
    assert step == 1
    assert jax.tree.structure(found) == jax.tree.structure(tree)
    same(found, tree)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        assert (type(one), one.dtype, one.shape) == (type(other), other.dtype, other.shape)


def test_what_has_no_numbers_is_refused_by_its_name(tmp_path):
    def traced(x):
        saved.save(1, {"x": x})
        return x

    with Checkpoints(tmp_path) as saved:
        for leaf in ("text", np.array(["a"]), np.array([None]), np.array(1, "M8[s]"), object()):
            with pytest.raises(TypeError, match=r"numbers and of bool; got .* in a\.b"):
                saved.save(1, {"a": {"b": leaf}})
        with pytest.raises(TypeError, match=r"x is traced: call save and restore outside jit"):
            jax.jit(traced)(np.ones(1))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_an_error_in_writing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"could not be written to .*file"):
        Checkpoints(tmp_path / "file")


def test_the_first_process_tells_the_others(monkeypatch):
    """A step that 32 bits do not hold, and every kind of array, as bytes."""
    sent = []
    monkeypatch.setattr(
        checkpoint.multihost_utils, "broadcast_one_to_all", lambda a: sent.append(a) or sent[0]
    )
    raw = {"a": np.arange(3.0), "b": np.zeros((0, 2)), "c": np.ones(2, jnp.bfloat16)}
    checkpoint._broadcast(2**40, raw)
    step, told = checkpoint._broadcast(0, jax.tree.map(np.zeros_like, raw))
    assert step == 2**40
    same(told, raw)


def test_an_older_step_is_refused(pair):
    with Checkpoints(pair) as saved, pytest.raises(ValueError, match="step 8 must be newer"):
        saved.save(8, TREE)


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="1 or more; got 0"):
        Checkpoints(tmp_path, keep=0)


@contextmanager
def full_disk(size):
    """No file may grow beyond size bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above
def test_a_full_disk_is_an_error_that_leaves_the_checkpoint_before(tmp_path):
    like = {"x": np.zeros(100_000)}
    noise = {"x": np.random.default_rng(0).normal(size=100_000)}  # does not compress
    with Checkpoints(tmp_path) as saved:
        saved.save(1, noise)
    with (
        pytest.raises(WriteError, match=r"could not be written to .* Earlier ones are intact"),
        full_disk(10_000),
        Checkpoints(tmp_path) as saved,
    ):
        saved.save(2, {"x": 2 * noise["x"]})
    with Checkpoints(tmp_path) as saved:
        step, tree = saved.restore(like)
        assert step == 1
        same(tree, noise)
        saved.save(2, {"x": 2 * noise["x"]})  # there is room again
    with Checkpoints(tmp_path) as saved:
        assert saved.restore(like)[0] == 2
