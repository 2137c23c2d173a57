"""Saving and restoring states of long work; the only module that imports Orbax.

    with Checkpoints(folder) as saved:
        step, state = saved.restore(state)       # (0, state) where nothing was saved yet
        ...
        saved.save(step, state)

Any pytree of arrays is saved by the paths of its leaves, Flax modules and PRNG keys included.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import jax
import orbax.checkpoint as ocp

from recur.core import Tree


class Checkpoints:
    """A folder of checkpoints by step, of which the newest `keep` stay.

    A save is atomic: a run killed in the middle of one finds the checkpoint before it.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
        )

    def save(self, step: int, tree: Tree) -> None:
        """Save a pytree of arrays (PRNG keys too) under a step; returns while it is written."""
        self._manager.save(step, args=ocp.args.StandardSave(_raw(tree)))

    def restore(self, like: Tree) -> tuple[int, Tree]:
        """(step, tree) of the newest checkpoint, or (0, like) if there is none.

        `like` says structure, shapes and dtypes. Raises ValueError where the saved ones differ.
        """
        step = self._manager.latest_step()
        if step is None:
            return 0, like
        saved = _describe(self._manager.item_metadata(step).tree)
        asked = _describe(_raw(like))
        differ = [
            f"  {name}: saved {saved.get(name, 'nothing')}, now {asked.get(name, 'nothing')}"
            for name in sorted(saved.keys() | asked.keys())
            if saved.get(name) != asked.get(name)
        ]
        if differ:
            raise ValueError(
                f"the checkpoint of step {step} in {self._manager.directory} was made with another "
                "configuration; remove that folder or run without resuming. They differ in\n"
                + "\n".join(differ)
            )
        raw = self._manager.restore(step, args=ocp.args.StandardRestore(_raw(like)))
        leaves = [
            jax.random.wrap_key_data(raw[name], impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else raw[name]
            for name, leaf in _named(like).items()
        ]
        return step, jax.tree.unflatten(jax.tree.structure(like), leaves)

    def clear(self) -> None:
        """Delete all checkpoints of the folder."""
        for step in self._manager.all_steps():
            self._manager.delete(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what is still being written."""
        self._manager.close()


def _is_key(leaf: Tree) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: Tree) -> dict[str, jax.Array]:
    """The arrays of any pytree (Flax modules too) by their paths, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _raw(tree: Tree) -> dict[str, jax.Array]:
    """By path, PRNG keys as the integers they are."""
    return {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in _named(tree).items()
    }


def _describe(arrays: dict[str, jax.Array]) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in arrays.items()}
