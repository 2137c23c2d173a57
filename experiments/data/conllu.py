"""Sentences with the part of speech of each word, from CoNLL-U files."""

from pathlib import Path

import numpy as np

from experiments.data.slots import Tagged
from experiments.data.wheels import member

NEWS = "dante/data/porttinari/annotated.conllu"


def parts_of_speech(data_dir: Path | None = None) -> Tagged:
    """8,420 sentences, 168,400 words, of a Brazilian newspaper; the last tenth is the test set.

    `data_dir` may name a folder with one *train.conllu and one *test.conllu instead, such as a
    treebank of Universal Dependencies. Words are kept as written. Tags are the universal ones in
    column 4. Raises FileNotFoundError if a file is missing, and ValueError if its format is wrong.
    """
    if data_dir is None:
        sentences = _read(NEWS, member("parts_of_speech", NEWS).decode())
        split = len(sentences) - len(sentences) // 10
        parts = sentences[:split], sentences[split:]
    else:
        paths = [_file(data_dir, part) for part in ("train", "test")]
        train, test = (_read(str(path), path.read_text(encoding="utf-8")) for path in paths)
        parts = train, test
    names, arrays = [], []
    for column in (0, 1):
        each = [[[row[column] for row in sentence] for sentence in part] for part in parts]
        names.append(sorted({name for part in each for sentence in part for name in sentence}))
        number = {name: i for i, name in enumerate(names[-1])}
        arrays.append(
            [
                [np.array([number[name] for name in sentence], np.int32) for sentence in part]
                for part in each
            ]
        )
    (train_x, test_x), (train_y, test_y) = arrays
    return Tagged(train_x, train_y, test_x, test_y, *names)


def _file(data_dir: Path, part: str) -> Path:
    """The only file in the folder for this part."""
    found = sorted(data_dir.glob(f"*{part}.conllu"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{data_dir} has {len(found)} files *{part}.conllu; it must have one *train.conllu and "
            "one *test.conllu, like a treebank of Universal Dependencies"
        )
    return found[0]


def _read(name: str, text: str) -> list[list[tuple[str, str]]]:
    """Words and tags of every sentence: lines of ten columns, and an empty line after each."""
    sentences: list[list[tuple[str, str]]] = [[]]
    for line, row in enumerate(text.splitlines(), 1):
        columns = row.split("\t")
        if not row.strip():
            sentences.append([])
        elif row.startswith("#") or not columns[0].isdigit():  # 3-4 and 3.1 are not words
            continue
        elif len(columns) != 10 or columns[3] == "_":
            raise ValueError(
                f"line {line} of {name} has {len(columns)} columns, or no part of speech in the "
                "fourth; CoNLL-U has ten columns, separated by tabs"
            )
        else:
            sentences[-1].append((columns[1], columns[3]))
    sentences = [sentence for sentence in sentences if sentence]
    if not sentences:
        raise ValueError(f"{name} has no words; is the file whole?")
    return sentences
