"""The picture of docs/by_hand.md: python docs/by_hand.py writes docs/by_hand.png."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from recur import cells, scan

V = np.float32([[0, 0, 1, 0], [100, 100, 0, 0], [0, 0, 0, 100]])
lstm = cells.lstm.Params(np.zeros((1, 4), np.float32), V, np.float32([-50, 50, 0, -50]))
xs = np.float32([(3, 1, 0), (4, 1, 0), (2, 0, 0), (1, 0, 1), (3, -1, 0)])
states = scan.states(cells.lstm.long_short(cells.vanilla.identity), lstm, xs)

figure = Figure(figsize=(9, 3), layout="constrained")
left, right = figure.subplots(1, 2)
steps = np.arange(1, 6)
left.step(steps, states.c[:, 0], where="mid", label="memory c")
left.bar(steps, states.h[:, 0], 0.5, color="C1", label="output h")
left.plot(steps, xs[:, 0], "k.", label="x$_1$")
says = {1: "write", -1: "forget", 0: "pass"}
names = [says[int(write)] if not read else "read" for _, write, read in xs]
left.set_xticks(steps, names)
left.set(title="An LSTM whose gates are set", ylim=(0, 8.5))
left.legend(fontsize=8, loc="upper left", ncols=3)

for w in (1.01, 1.0, 0.99):
    impulse = np.eye(1000, 1, dtype=np.float32)
    ones = np.ones((1, 1), np.float32)
    params = cells.vanilla.Params(np.float32(w) * ones, ones, np.zeros(1, np.float32))
    ys = np.asarray(scan.run(cells.vanilla.linear, params, impulse)[1])[:, 0]
    right.semilogy(ys, label=f"w = {w}")
right.set(title="One linear unit, 1 and then zeros: w$^t$", xlabel="step", ylim=(1e-5, 1e5))
right.legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)
