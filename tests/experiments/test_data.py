"""The data sets: what is in them, a user's own files, and errors for what is not there."""

import numpy as np
import pytest

from experiments import data


def test_movielens_is_whole_and_in_order():
    found = data.histories()
    lengths = np.array([len(items) for items in found.items])
    assert (len(lengths), found.catalogue, lengths.sum()) == (943, 1682, 100_000)
    assert (lengths.min(), np.median(lengths), lengths.max()) == (20, 65, 737)
    assert all(len(set(items.tolist())) == len(items) for items in found.items)  # rated once
    raw = data.member("movielens", "recbole/dataset_example/ml-100k/ml-100k.inter").decode()
    lines = [line.split("\t") for line in raw.splitlines()[1:]]
    mine = [(int(time), item) for user, item, _, time in lines if user == "1"]
    names = sorted({item for _, item, _, _ in lines})  # as they are numbered
    in_order = [names.index(item) for _, item in sorted(mine, key=lambda one: one[0])]
    assert found.items[sorted({user for user, *_ in lines}).index("1")].tolist() == in_order


def test_histories_of_a_users_own_file(tmp_path):
    path = tmp_path / "ratings.tsv"
    path.write_text("user\titem\trating\ttime\nb\tx\t1\t30\na\ty\t5\t2\nb\tz\t1\t3\nb\ty\t1\t30\n")
    found = data.histories(path)
    assert found.catalogue == 3
    assert [items.tolist() for items in found.items] == [[1], [2, 0, 1]]  # equal times: file order
    for broken in (
        "",
        "user\titem\n1\t2\n",
        "u\ti\tr\tt\n1\t2\t3\tlast week\n",
        "u\n1\t2\t3\tnan\n",
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"ratings\.tsv"):
            data.histories(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.histories(tmp_path / "nowhere")


def test_japanese_vowels_are_ragged_and_all_there():
    found = data.japanese_vowels()
    assert (len(found.train_x), len(found.test_x), len(found.classes)) == (270, 370, 9)
    lengths = [len(x) for x in found.train_x + found.test_x]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert {x.shape[1] for x in found.train_x + found.test_x} == {12}
    assert np.bincount(found.train_y).tolist() == [30] * 9
    assert found.train_x[0][0, 0] == np.float32(1.860936)  # the first number of the file


def test_signals_of_a_users_own_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has 0 files \*_TRAIN\.ts"):
        data.japanese_vowels(tmp_path)
    train, test = tmp_path / "Toy_TRAIN.ts", tmp_path / "Toy_TEST.ts"
    train.write_text("@problemName Toy\n@data\n1,2,3:4,5,6:up\n7:8:down\n")
    test.write_text("@DATA\n\n0,1:0,2:up\n")
    found = data.japanese_vowels(tmp_path)
    assert [x.tolist() for x in found.train_x] == [[[1, 4], [2, 5], [3, 6]], [[7, 8]]]
    assert found.classes == ["down", "up"]
    assert (found.train_y.tolist(), found.test_y.tolist()) == ([1, 0], [1])
    for broken, message in (
        ("@data\n1,2:3:up\n", r"line 2 of .*Toy_TEST\.ts must be channels of equally many"),
        ("@data\n1,x:3,4:up\n", "line 2 of"),
        ("@data\nup\n", "no channels"),
        ("1,2:3,4:up\n", "no signals after a line @data"),
        ("@data\n1,2:3,4:left\n", "classes that .* lacks"),
        ("@data\n1,2:up\n", r"signals of \{.*\} channels"),
    ):
        test.write_text(broken)
        with pytest.raises(ValueError, match=message):
            data.japanese_vowels(tmp_path)


def test_sunspots_and_a_users_own_series(tmp_path):
    found = data.sunspots()
    assert found.times.tolist() == list(range(1700, 2009))
    assert found.values.max() == found.values[found.times == 1957] == 190.2
    path = tmp_path / "series.csv"
    path.write_text("t,x\n0,1.5\n1,-2\n")
    assert data.sunspots(path).values.tolist() == [1.5, -2]
    for broken in ("t,x\n1,two\n", "t\n1\n2\n", "t,x\n1,nan\n"):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"series\.csv has"):
            data.sunspots(path)


def test_the_pronouncing_dictionary_is_whole_and_its_parts_share_no_word():
    found = data.pronunciations(validation=1000, test=6000)
    parts = (found.train, found.validation, found.test)
    assert [len(part) for part in parts] == [126_052 - 7000, 1000, 6000]
    together = found.train | found.validation | found.test
    assert len(together) == 126_052  # no word in two parts
    assert len(found.phones) == 39
    assert set(found.letters) == set("abcdefghijklmnopqrstuvwxyz'-.")
    names = [" ".join(found.phones[i] for i in way) for way in together["tomato"]]
    assert names == ["T AH M EY T OW", "T AH M AA T OW"]


def test_pronunciations_of_a_users_own_file(tmp_path):
    path = tmp_path / "own.dict"
    path.write_text("a AH0\na(2) EY1 # stressed\n\n# no word\nb B IY1\nb(2) B IY0\nab AH B\n")
    found = data.pronunciations(1, 1, path=path)
    (together,) = [found.train | found.validation | found.test]
    names = {w: [[found.phones[i] for i in way] for way in ways] for w, ways in together.items()}
    assert names == {"a": [["AH"], ["EY"]], "b": [["B", "IY"]], "ab": [["AH", "B"]]}
    assert (found.letters, found.phones) == ("ab", ["AH", "B", "EY", "IY"])
    assert [len(part) for part in found[:3]] == [1, 1, 1]
    assert data.pronunciations(1, 1, path=path) == found
    assert (
        len({word for seed in range(9) for word in data.pronunciations(1, 1, seed, path).test}) == 3
    )
    with pytest.raises(ValueError, match=r"must leave some of the 3 words of .*own\.dict"):
        data.pronunciations(1, 2, path=path)
    for broken, message in (
        ("", "has no words"),
        ("a AH0\nb\n", r"line 2 of .*own\.dict must be a word and its phones"),
        ("a 1\n", "line 1 of"),
        ("(2) AH\n", "line 1 of"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=message):
            data.pronunciations(0, 0, path=path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        data.pronunciations(0, 0, path=path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.pronunciations(0, 0, path=tmp_path / "nowhere")


def test_the_treebank_is_that_of_the_papers():
    found = data.penn()
    assert [len(part) for part in found[:3]] == [929_589, 73_760, 82_430]
    assert len(found.symbols) == 10_000
    begin = " ".join(found.symbols[i] for i in found.test[:7])
    assert begin == "no it was n't black monday <eos>"
    assert np.bincount(found.train).argmax() == 0 == found.symbols.index("the")


@pytest.mark.slow
def test_the_treebank_by_characters():
    found = data.penn("characters")
    assert [len(part) for part in found[:3]] == [5_017_482, 393_042, 442_423]
    assert len(found.symbols) == 50
    assert "".join(found.symbols[i] for i in found.test[:27]) == "no it was n't black monday\n"


def test_a_text_of_a_users_own(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("the cat sat\n\n" * 9 + "the dog sat\nthe end\n")
    found = data.text(path)
    assert found.symbols == ["the", "sat", "cat", "<eos>", "<unk>"]  # dog is there once: unknown
    whole = "".join(f" {found.symbols[i]}" for part in found[:3] for i in part)
    assert whole == 9 * " the cat sat <eos>" + " the <unk> sat <eos> the <unk> <eos>"
    assert [len(part) for part in found[:3]] == [39, 2, 2]
    assert data.text(path, vocabulary=1).symbols == ["the", "<unk>"]
    letters = data.text(path, "characters")
    assert "".join(letters.symbols[i] for i in letters.train[:13]) == "the cat sat\n\n"
    assert letters.symbols[-1] == "\ufffd"
    for broken, message in (
        (b"", "has 0 words"),
        (b"a b\n", "has 3 words"),
        (b"\xff\xfe" * 99, "not text in UTF-8"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"own\.txt .*{message}"):
            data.text(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.text(tmp_path / "nowhere")


def test_pip_fetches_the_very_wheel_on_any_machine():
    assert data.SOURCES["digits"].platform == []
    flags = dict(zip(*[iter(data.SOURCES["sunspots"].platform)] * 2, strict=True))
    platform = flags.pop("--platform")
    assert flags == {"--python-version": "311", "--abi": "cp311"}
    assert data.SOURCES["sunspots"].wheel.endswith(f"-cp311-{platform}.manylinux_2_28_x86_64.whl")
