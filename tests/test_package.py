"""What is released: a wheel of the library alone, one version, and all of it after one import."""

import py_compile
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import recur

ROOT = Path(__file__).parents[1]


def sources(folder):
    """Paths of all files of a folder, as they stand in an archive; no compiled ones."""
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, source distribution), made without a network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        about = f"recur_jax-{recur.__version__}.dist-info/"
        said = message_from_bytes(wheel.read(about + "METADATA"))
    assert {name for name in names if not name.startswith(about)} == sources("recur")
    assert "recur/py.typed" in names
    assert about + "licenses/LICENSE" in names
    assert (said["Name"], said["Version"]) == ("recur-jax", recur.__version__)
    assert said["Author"] == "The recur developers"
    assert not {"Home-page", "Project-URL", "Author-email"} & set(said.keys())


@pytest.mark.slow
def test_the_source_distribution_holds_what_is_needed_to_test_it(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("recur", "tests", "experiments"):
        assert sources(folder) <= names, sources(folder) - names
    assert {"README.md", "pyproject.toml", "docs/index.md"} <= names


def test_what_is_heavy_is_reached_by_its_name():
    """`recur.train` was an AttributeError until somebody had imported it."""
    for name in recur.LATER:
        assert recur.__getattr__(name) is sys.modules[f"recur.{name}"]
        assert name in dir(recur)
    assert recur.flax.weights
    assert recur.flax.models.Classifier


@pytest.mark.slow
def test_one_import_is_enough():
    code = "import recur; recur.train.advance; recur.checkpoint.Checkpoints"
    code += (
        "; recur.flax.cells.NnxCell; recur.flax.weights.with_params; recur.plot.band; recur.weights"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_lowest_versions_are_those_that_are_tested():
    """Each bound of pyproject.toml is a line of the constraints that .ci/run installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["plot"], *extras["experiments"], *extras["test"]]
    tools = ("recur-jax", "ruff", "mypy")  # no part of a program that runs
    wanted = [line for line in wanted if not line.startswith(tools)]
    lines = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    lowest = dict(line.split("==") for line in lines if "==" in line)
    assert len(wanted) > 10
    for line in wanted:
        name, bound = line.split(">=")
        tested = lowest.pop(name)
        assert tested == bound, line
    assert lowest.keys() == {"jaxlib", "numpy", "scipy"}  # that JAX brings along


def test_mypy_reads_the_experiments_and_a_file_of_user_code(tmp_path):
    """It read the library alone, so calls that users make could be refused unseen."""
    read = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert read == ["recur", "experiments", "tests/typed_user.py"]
    py_compile.compile(str(ROOT / read[-1]), str(tmp_path / "typed_user.pyc"), doraise=True)
