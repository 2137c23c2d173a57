"""Saving and restoring states of long work; the only module that imports Orbax.

    with Checkpoints(folder, seconds=60) as saved:
        step, state = saved.restore(state)       # (0, state) where nothing was saved yet
        ...
        saved.save(step, state)                  # when the last one is a minute old

Any pytree of arrays is saved by the paths of its leaves, Flax modules and PRNG keys included.
"""

import shutil
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from recur.core import Tree

Named = dict[str, np.ndarray]  # the arrays of a pytree by their paths


class Checkpoints:
    """A folder of checkpoints by step, of which the newest `keep` stay.

    A save is atomic and goes on in the background: a run killed in the middle of one finds the
    checkpoint before it. `seconds` lie at least between two saves. Of several processes, the first
    alone reads and writes, and tells the others.
    """

    def __init__(self, folder: str | Path, keep: int = 2, seconds: float = 0.0):
        if keep < 1:
            raise ValueError(f"keep is a number of checkpoints, 1 or more; got {keep}")
        self._folder, self._seconds = Path(folder).absolute(), seconds
        self._last, self._step = -np.inf, 0  # when a save was made, and of which step
        self._late: tuple[int, Tree] | None = None  # what came too soon after the last save
        self._manager = _manager(self._folder, keep) if jax.process_index() == 0 else None

    def save(self, step: int, tree: Tree) -> None:
        """Save a pytree of arrays (PRNG keys too) under a step, if the last save is old enough.

        One that came too soon is saved after all if it was the last of a block that ends well.
        The arrays are copied, so they may change or be donated while they are written. A step that
        was just saved is not saved again. Raises WriteError where this save, or the one before it,
        could not be written, and ValueError for a step below 1 or that of an older checkpoint.
        """
        if step < 1:
            raise ValueError(f"steps are counted from 1, and 0 is the beginning; got {step}")
        if self._manager is None or step == self._step:
            return
        soon = time.monotonic() - self._last < self._seconds
        self._late = (step, tree) if soon else None
        if not soon:
            self._write(self._manager, step, tree)

    def _write(self, manager: Any, step: int, tree: Tree) -> None:
        self._last, self._step = time.monotonic(), step
        arrays = {name: np.array(leaf) for name, leaf in _raw(tree).items()}
        about = {"arrays": _describe(arrays), "sums": _sums(arrays)}
        with self._explained():
            new = manager.save(step, args=ocp.args.StandardSave(arrays), custom_metadata=about)
        if not new:
            raise ValueError(
                f"step {step} is not newer than the checkpoints of {self._folder}: restore the "
                "last of them and go on from there, or clear them first"
            )

    def restore(self, like: Tree) -> tuple[int, Tree]:
        """(step, tree) of the newest checkpoint that is whole, or (0, like) if there is none.

        `like` says structure, shapes and dtypes. A checkpoint that is damaged is put aside with a
        RuntimeWarning that names it. Raises ValueError where what was saved differs from `like`.
        """
        step, raw = 0, {name: np.asarray(leaf) for name, leaf in _raw(like).items()}
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
        self._last, self._step, self._late = -np.inf, 0, None
        if self._manager is not None:
            self._manager.wait_until_finished()
            for child in self._folder.iterdir():
                if child.name.isdigit() or child.name.startswith("damaged."):
                    shutil.rmtree(child)
            self._manager.reload()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Save what was left for the end, and wait for what is still being written."""
        if self._manager is not None:
            try:
                if kind is None and self._late is not None and not _deleted(self._late[1]):
                    self._write(self._manager, *self._late)
            finally:
                with self._explained():
                    self._manager.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what an error in writing means; Orbax has no error of its own for it."""
        try:
            yield
        except Exception as error:
            raise WriteError(
                f"a checkpoint could not be written to {self._folder}. Those before it are whole: "
                f"make room or mend the cause, then resume. ({str(error).splitlines()[0][:200]})"
            ) from error

    def _newest(self, like: Named) -> tuple[int, Named]:
        """Step and arrays of the newest whole checkpoint; those newer than it are put aside."""
        assert self._manager is not None
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return step, self._read(step, like)
            except Damaged as damage:
                aside = self._folder / f"damaged.{step}"
                shutil.rmtree(aside, ignore_errors=True)
                (self._folder / str(step)).rename(aside)
                self._manager.reload()
                warnings.warn(
                    f"the checkpoint of step {step} in {self._folder} is damaged and was put aside "
                    f"as {aside.name}; the one before it is taken ({damage})",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return 0, like

    def _read(self, step: int, like: Named) -> Named:
        """The arrays of one checkpoint. Raises Damaged, and ValueError where they differ."""
        assert self._manager is not None
        try:
            saved = self._manager.metadata(step).custom_metadata
            kinds, sums = saved["arrays"], saved["sums"]
        except Exception as error:  # Orbax has no error of its own for what it cannot read
            raise Damaged("it does not say what it holds") from error
        asked = _describe(like)
        differ = [
            f"  {name}: saved {kinds.get(name, 'nothing')}, now {asked.get(name, 'nothing')}"
            for name in sorted(kinds.keys() | asked.keys())
            if kinds.get(name) != asked.get(name)
        ]
        if differ:
            raise ValueError(
                f"the checkpoint of step {step} in {self._folder} was made with another "
                "configuration; remove that folder or run without resuming. They differ in\n"
                + "\n".join(differ)
            )
        try:
            raw = self._manager.restore(step, args=ocp.args.StandardRestore(like))
        except Exception as error:
            raise Damaged(f"{type(error).__name__} in reading") from error
        wrong = [name for name, sum in _sums(raw).items() if sum != sums[name]]
        if wrong:
            raise Damaged(f"other numbers than were saved in {', '.join(wrong)}")
        return {name: raw[name] for name in like}  # in one order in all processes


class WriteError(OSError):
    """A checkpoint could not be written; those before it are whole."""


class Damaged(Exception):
    """A checkpoint that is not what was saved."""


def _deleted(tree: Tree) -> bool:
    """Whether arrays of it were given to a later computation to overwrite."""
    return any(isinstance(a, jax.Array) and a.is_deleted() for a in jax.tree.leaves(tree))


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    """Orbax's own, for this process alone."""
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
    """What the first process has, to all of them; as bytes, which keep every dtype."""
    flat = np.frombuffer(b"".join(leaf.tobytes() for leaf in raw.values()), np.uint8)
    step, flat = multihost_utils.broadcast_one_to_all((np.int32(step), flat))
    ends = np.cumsum([leaf.nbytes for leaf in raw.values()])
    parts = np.split(np.asarray(flat), ends[:-1])
    return int(step), {
        name: part.view(leaf.dtype).reshape(leaf.shape).copy()  # may be written to
        for (name, leaf), part in zip(raw.items(), parts, strict=True)
    }


def _is_key(leaf: Tree) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: Tree) -> dict[str, Tree]:
    """The arrays of any pytree (Flax modules too) by their paths, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _raw(tree: Tree) -> dict[str, Tree]:
    """By path, PRNG keys as the integers they are."""
    return {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in _named(tree).items()
    }


def _like(leaf: Tree, saved: np.ndarray) -> Tree:
    """A saved array as what the leaf is: a key, an array of JAX or of NumPy."""
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf))
    return jnp.asarray(saved) if isinstance(leaf, jax.Array) else saved


def _describe(arrays: Named) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in arrays.items()}


def _sums(arrays: Named) -> dict[str, int]:
    """A checksum for each array: what Orbax writes has none of its own."""
    return {name: zlib.crc32(leaf.tobytes()) for name, leaf in arrays.items()}
