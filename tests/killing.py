"""Runs that are killed half-way and resumed."""

import json

import numpy as np
import pytest

from experiments import harness


class Killed(harness.Record):
    """A record that dies after so many rounds, of any part or of one."""

    def __init__(self, folder, rounds, part=None):
        super().__init__(folder)
        self.left, self.part = rounds, part

    def metrics(self, **values):
        line = super().metrics(**values)
        self.left -= self.part in (None, values["part"])
        if not self.left:
            raise KeyboardInterrupt
        return line


def require_resumed(run, folder, rounds=2, part=None, whole=None):
    """A run(record) that is killed and resumed leaves what a whole one leaves, times aside.

    Returns what the whole one gave. Where that is passed in, the one killed may be of its first
    networks alone.
    """
    first = whole is not None
    if whole is None:
        whole = run(harness.Record(folder / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run(Killed(folder / "cut", rounds, part))
    assert rounds == 1 or any((folder / "cut" / "checkpoints").glob("*/[0-9]*"))
    resumed = run(harness.Record(folder / "cut", resume=True))
    lines = [
        [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
        for path in (folder / name / "metrics.jsonl" for name in ("whole", "cut"))
    ]
    parts = {line["part"] for line in lines[1]}
    assert [line for line in lines[0] if line["part"] in parts] == lines[1]
    names = getattr(whole, "_fields", range(len(whole)))
    for name, one, other in zip(names, whole, resumed, strict=True):
        if name != "seconds":
            one = one[: len(other)] if first and np.ndim(other) else one
            np.testing.assert_array_equal(one, other, err_msg=str(name))
    return whole
