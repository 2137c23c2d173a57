"""Saving and restoring the state of long computations; the only module that imports Orbax.

    with Checkpoints(folder, seconds=60) as saved:
        step, state = saved.restore(state)       # (0, state) where nothing was saved yet
        ...
        saved.save(step, state)                  # writes if the last one is a minute old

Any pytree of arrays is saved by the paths of its leaves, Flax modules and PRNG keys included.
"""

import json
import operator
import shutil
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from recur import expect
from recur.core import Tree

Named = dict[str, np.ndarray]  # the arrays of a pytree by their paths
NOTHING = {"nothing": np.zeros(1, np.uint8)}  # written if a tree has no numbers


class Checkpoints:
    """A folder of checkpoints by step, which keeps the newest `keep`.

    A save is atomic and runs in the background. A run that is killed during a save finds the
    previous checkpoint. If a run has several processes, only the first reads and writes, and tells
    the others. Two runs need two folders. `note` is the text that was saved with the checkpoint
    that was restored.

    Args:
        folder: Made if it does not exist.
        keep: Checkpoints to keep, 1 or more.
        seconds: Least time between two saves.
        origin: What makes the checkpoints, such as {"seed": "0", "code": "0.1.0"}. It is saved with
            each checkpoint, and `restore` refuses a checkpoint with another value. None: nothing.

    Raises:
        ValueError: keep or seconds is out of range.
        TypeError: The folder is not a path, keep is not an integer, or seconds is not a number.
        WriteError: The folder cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, checkpoint.Checkpoints(folder) as saved:
        ...     saved.save(3, {"w": jnp.ones(2)})
        ...     print(saved.restore({"w": jnp.zeros(2)}))
        (3, {'w': Array([1., 1.], dtype=float32)})
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        seconds: float = 0.0,
        origin: Mapping[str, str] | None = None,
    ):
        expect.instance(str, Path)("folder", folder)
        expect.integer("keep", keep)
        expect.number(0)("seconds", seconds)
        if keep < 1:
            raise ValueError(f"keep must be a number of checkpoints, 1 or more; got {keep}")
        self._folder, self._seconds = Path(folder).absolute(), seconds
        self._origin, self.note = dict(origin or {}), ""
        self._last, self._step = -np.inf, 0  # the time of a save, and its step
        self._late: tuple[int, dict[str, Tree], str] | None = (
            None  # came too soon after the last save
        )
        self._manager = None
        if jax.process_index() == 0:
            with self._explained():
                self._manager = _manager(self._folder, keep)

    def save(self, step: int, tree: Tree, note: str = "") -> None:
        """Save a pytree of arrays (PRNG keys too) under a step, if the last save is old enough.

        A save that came too soon is written after all if it was the last of a block that ends
        without an error, or the last before a restore. The arrays are copied, so they may change or
        be donated while they are written. A step that was just saved is not saved again.

        Args:
            step: Counted from 1, and newer than all saved steps.
            tree: A pytree of arrays; Flax modules too.
            note: A text to save with it.

        Raises:
            WriteError: This save, or the one before it, could not be written.
            ValueError: The step is below 1 or that of an older checkpoint.
            TypeError: The step is not an integer, or a leaf has no numbers.
        """
        step = _whole(step)
        leaves = _raw(tree)
        if self._manager is None or step == self._step:
            return
        if time.monotonic() - self._last < self._seconds:
            self._late = step, {name: _unchanging(leaf) for name, leaf in leaves.items()}, note
        else:
            self._write(self._manager, step, leaves, note)

    def _write(self, manager: Any, step: int, leaves: dict[str, Tree], note: str) -> None:
        self._last, self._step, self._late = time.monotonic(), step, None
        arrays = {name: _native(leaf) for name, leaf in leaves.items()}
        sums = {name: _sum(leaf) for name, leaf in arrays.items()}
        about = {"step": step, "arrays": _describe(arrays), "sums": sums}
        about |= {"origin": self._origin, "note": note}
        with self._explained():
            new = manager.save(
                step,
                args=ocp.args.StandardSave(_filled(arrays) or NOTHING),
                custom_metadata=_sealed(about),
            )
        if not new:
            raise ValueError(
                f"step {step} must be newer than the checkpoints of {self._folder}: restore the "
                "last one and continue from there, or clear them first"
            )

    def _settle(self) -> None:
        """Write a save that came too soon, and wait until everything is written."""
        if self._manager is None:
            return
        try:
            if self._late is not None and not _deleted(self._late[1]):
                self._write(self._manager, *self._late)
        finally:
            self._late = None
            with self._explained():
                self._manager.wait_until_finished()

    def restore(self, like: Tree) -> tuple[int, Tree]:
        """The newest checkpoint that is intact.

        A damaged checkpoint is renamed, with a RuntimeWarning that names it.

        Args:
            like: A tree with the structure, shapes and dtypes that were saved.

        Returns:
            (step, tree), or (0, like) if there is none.

        Raises:
            Mismatch: What was saved differs from `like`, or was made by another `origin`.
        """
        step, raw = 0, {name: _native(leaf) for name, leaf in _raw(like).items()}
        self._settle()
        if self._manager is not None:
            step, raw = self._newest(raw)
        if jax.process_count() > 1:
            step, raw = _broadcast(step, raw)
        if step == 0:
            return 0, like
        leaves = [_like(leaf, raw[name]) for name, leaf in _named(like).items()]
        return step, jax.tree.unflatten(jax.tree.structure(like), leaves)

    def clear(self) -> None:
        """Delete all checkpoints of the folder, and nothing else there."""
        self._last, self._step, self._late, self.note = -np.inf, 0, None, ""
        if self._manager is not None:
            with self._explained():
                self._manager.wait_until_finished()
                for child in self._folder.iterdir():
                    if child.name.isdigit() or child.name.startswith("damaged."):
                        _remove(child)
                self._manager.reload()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Save what came too soon, and wait until everything is written."""
        if self._manager is not None:
            try:
                if kind is None:
                    self._settle()
            finally:
                with self._explained():
                    self._manager.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Explain an error in writing, since Orbax has no error of its own for it."""
        try:
            yield
        except Exception as error:
            cause = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise WriteError(
                f"a checkpoint could not be written to {self._folder}. Earlier ones are intact: "
                f"free space or fix the cause, then resume. ({cause})"
            ) from error

    def _newest(self, like: Named) -> tuple[int, Named]:
        """Step and arrays of the newest intact checkpoint; damaged newer ones are renamed."""
        assert self._manager is not None
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return step, self._read(step, like)
            except Damaged as damage:
                aside = self._folder / f"damaged.{step}"
                with self._explained():
                    _remove(aside)
                    (self._folder / str(step)).rename(aside)
                    self._manager.reload()
                warnings.warn(
                    f"the checkpoint of step {step} in {self._folder} is damaged and was renamed "
                    f"to {aside.name}; the one before it is used ({damage})",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return 0, like

    def _read(self, step: int, like: Named) -> Named:
        """The arrays of one checkpoint. Raises Damaged, and Mismatch if they differ."""
        assert self._manager is not None
        try:
            about = _unsealed(self._manager.metadata(step).custom_metadata)
            kinds, sums, origin = about["arrays"], about["sums"], about["origin"]
            same = about["step"] == step
        except Exception as error:  # Orbax has no error of its own for what it cannot read
            raise Damaged("its description cannot be read") from error
        if not same:
            raise Damaged(f"it was saved as step {about['step']}")
        asked = _describe(like)
        differ = [
            f"  {name}: {origin[name]} then, {self._origin[name]} now"
            for name in sorted(origin.keys() & self._origin.keys())
            if origin[name] != self._origin[name]
        ] + [
            f"  {name}: saved {kinds.get(name, 'nothing')}, now {asked.get(name, 'nothing')}"
            for name in sorted(kinds.keys() | asked.keys())
            if kinds.get(name) != asked.get(name)
        ]
        if differ:
            raise Mismatch(
                f"the checkpoint of step {step} in {self._folder} was made with another "
                "configuration; remove that folder or run without resuming. The differences are\n"
                + "\n".join(differ)
            )
        try:
            filled = ocp.args.StandardRestore(_filled(like) or NOTHING)
            raw = self._manager.restore(step, args=filled)
            raw = {name: raw[name] if leaf.size else leaf for name, leaf in like.items()}
        except Exception as error:
            raise Damaged(f"{type(error).__name__} while reading") from error
        wrong = [name for name, leaf in raw.items() if _sum(leaf) != sums[name]]
        if wrong:
            raise Damaged(f"the numbers in {', '.join(wrong)} are not those that were saved")
        self.note = about["note"]
        return raw  # in the order of `like`, which is that of all processes


class WriteError(OSError):
    """A checkpoint could not be written; earlier ones are intact."""


class Mismatch(ValueError):
    """A checkpoint of another configuration, or of another code."""


class Damaged(Exception):
    """A checkpoint that is not what was saved."""


def _whole(step: int) -> int:
    """A step as a Python int. Raises TypeError and ValueError for anything else."""
    try:
        number = None if isinstance(step, bool | np.bool_) else operator.index(step)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(
            f"a step must be an integer, 1 or more; got {step!r}, a {type(step).__name__}"
        )
    if number < 1:
        raise ValueError(
            f"a step must be 1 or more, since 0 is the state before the first step; got {number}"
        )
    return number


def _deleted(tree: Tree) -> bool:
    """Whether some of its arrays were donated to a later computation."""
    return any(isinstance(a, jax.Array) and a.is_deleted() for a in jax.tree.leaves(tree))


def _remove(path: Path) -> None:
    """Delete a folder, a file or a link, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sealed(about: dict[str, Any]) -> dict[str, Any]:
    """The description of a checkpoint, as text with a checksum."""
    text = json.dumps(about)
    return {"about": text, "sum": zlib.crc32(text.encode())}


def _unsealed(sealed: dict[str, Any]) -> dict[str, Any]:
    """The description. Raises Damaged if its checksum does not fit."""
    if zlib.crc32(sealed["about"].encode()) != sealed["sum"]:
        raise Damaged("its description has changed")
    return json.loads(sealed["about"])


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    """The manager of Orbax, for this process only."""
    folder.mkdir(parents=True, exist_ok=True)
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    return ocp.CheckpointManager(
        folder,
        item_handlers=ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            cleanup_tmp_directories=True,  # what a killed run was writing
            lightweight_initialize=True,  # reads no checkpoint yet: it may be damaged
            multiprocessing_options=alone,
        ),
    )


def _broadcast(step: int, raw: Named) -> tuple[int, Named]:
    """Send what the first process has to all processes, as bytes, which keep every dtype."""
    arrays = [np.array(step, np.int64), *raw.values()]
    flat = np.frombuffer(b"".join(leaf.tobytes() for leaf in arrays), np.uint8)
    flat = np.asarray(multihost_utils.broadcast_one_to_all(flat))
    parts = np.split(flat, np.cumsum([leaf.nbytes for leaf in arrays])[:-1])
    first, *leaves = (
        part.view(leaf.dtype).reshape(leaf.shape).copy()  # may be written to
        for leaf, part in zip(arrays, parts, strict=True)
    )
    return int(first), dict(zip(raw, leaves, strict=True))


def _is_key(leaf: Tree) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: Tree) -> dict[str, Tree]:
    """The arrays of any pytree (Flax modules too) by their paths, in order.

    A path is written a.b.0. If two would look the same, both are written in full, ['a']['b'][0].
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    short = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    times = Counter(short)
    named = {
        name if times[name] == 1 else jax.tree_util.keystr(path): leaf
        for name, (path, leaf) in zip(short, leaves, strict=True)
    }
    if len(named) < len(leaves):
        raise ValueError(
            "each array must have its own path in a checkpoint; rename the keys of "
            f"{sorted((name for name, count in times.items() if count > 1))}"
        )
    return named


def _raw(tree: Tree) -> dict[str, Tree]:
    """Arrays by path, with PRNG keys as integers. Raises TypeError for other kinds of array."""
    raw = {}
    for name, leaf in _named(tree).items():
        raw[name] = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(f"{name} is traced: call save and restore outside jit, grad and vmap")
        dtype = getattr(raw[name], "dtype", None) or np.asarray(leaf).dtype
        if not _is_saved(dtype):
            raise TypeError(
                f"a checkpoint can hold arrays of numbers and of bool; got {dtype} in {name}: "
                "leave it out, or turn it into numbers"
            )
    return raw


def _is_saved(dtype: np.dtype) -> bool:
    """Whether Orbax writes this dtype: all of JAX and NumPy, except 128 bits per part."""
    number = jax.dtypes.issubdtype(dtype, np.number) or dtype == np.bool_
    return number and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def _native(leaf: Tree) -> np.ndarray:
    """A NumPy copy, in the byte order of this machine."""
    array = np.array(leaf)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _unchanging(leaf: Tree) -> Tree:
    """The leaf, or a copy if it may be overwritten."""
    return np.copy(leaf) if isinstance(leaf, np.ndarray) else leaf


def _like(leaf: Tree, saved: np.ndarray) -> Tree:
    """A saved array in the form of the leaf: a key, a JAX array or a NumPy array."""
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array):
        return jnp.asarray(saved)
    return saved.astype(leaf.dtype, copy=False) if isinstance(leaf, np.ndarray) else saved


def _describe(arrays: Named) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in arrays.items()}


def _filled(arrays: Named) -> Named:
    """The arrays that are not empty. Orbax refuses empty ones, which shape and dtype describe."""
    return {name: leaf for name, leaf in arrays.items() if leaf.size}


def _sum(array: np.ndarray) -> int:
    """A checksum, since Orbax writes none."""
    return zlib.crc32(array.tobytes())
