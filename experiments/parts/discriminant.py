"""A baseline without recurrence: Fisher's linear discriminant."""

import numpy as np


def accuracy(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy on features x (N, d) of classes y (N,), after fitting to train_x and train_y.

    All classes 0 .. Y - 1 must occur in train_y. They get equal prior probabilities.
    """
    means = np.stack([train_x[train_y == k].mean(axis=0) for k in range(train_y.max() + 1)])
    within = np.cov((train_x - means[train_y]).T).reshape(len(means.T), -1)
    directions = np.linalg.solve(within + 1e-6 * np.eye(len(within)), means.T)  # (d, Y)
    scores = x @ directions - 0.5 * np.sum(means.T * directions, axis=0)
    return float(np.mean(scores.argmax(axis=1) == y))
