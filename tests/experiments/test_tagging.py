"""Slot filling at toy size, on a folder of the form of ATIS that is made here."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from killing import require_resumed

from experiments import data, harness, tagging
from experiments.parts.sentences import most_frequent, ragged

WORDS = ["fly", "from", "to", "and", "boston", "denver", "st.", "louis", "at", "noon"]
TAGS = ["B-from", "B-time", "B-to", "I-from", "I-to", "O"]
CITIES = (("boston",), ("denver",), ("st.", "louis"))


def sentence(rng):
    """A city is where one goes to or comes from by the word after it: a matter of what follows."""
    words, tags = ["fly"], ["O"]
    for kind, after in rng.permutation([("from", "and"), ("to", "at")]).tolist():
        city = CITIES[rng.integers(3)]
        words += [*city, after]
        tags += [f"B-{kind}", *[f"I-{kind}"] * (len(city) - 1), "O"]
    return [WORDS.index(w) for w in words], [TAGS.index(t) for t in tags]


def lines(rows):
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    """One folder a test, for it to spoil."""
    return made(tmp_path / "toy")


def made(place):
    """200 + 40 sentences in the six files; their intents are not needed."""
    rng = np.random.default_rng(0)
    place.mkdir()
    (place / "toy.dict.vocab.csv").write_text("\n".join(WORDS) + "\n")
    (place / "toy.dict.slots.csv").write_text("\n".join(TAGS) + "\n")
    for part, count in (("train", 200), ("test", 40)):
        xs, ys = zip(*(sentence(rng) for _ in range(count)), strict=True)
        (place / f"toy.{part}.query.csv").write_text(lines(xs))
        (place / f"toy.{part}.slots.csv").write_text(lines(ys))
    return place


def toy(folder, **changes):
    values = {
        "data_dir": folder,
        "d": 8,
        "parameters": 400,
        "epochs": 8,
        "batch": 10,
        "held_out": 40,
        "dropout": 0.0,
        "learning_rate": 2e-2,
    }
    return tagging.Config(**values | {"cells": ("vanilla", "bidirectional.vanilla")} | changes)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-x I-x O", {("x", 0, 2)}),
        ("O I-x I-x", {("x", 1, 3)}),  # I after O begins a slot
        ("B-x B-x", {("x", 0, 1), ("x", 1, 2)}),
        ("B-x I-y I-y", {("x", 0, 1), ("y", 1, 3)}),  # I of another kind begins one
        ("B-x O I-x", {("x", 0, 1), ("x", 2, 3)}),
        ("I-x B-x I-x", {("x", 0, 1), ("x", 1, 3)}),
        ("B-a.b-c I-a.b-c", {("a.b-c", 0, 2)}),
        ("", set()),
    ],
)
def test_spans_by_the_rule_of_conll(tags, expected):
    assert tagging.spans(tags.split()) == expected


def test_f1_counts_whole_slots_within_the_sentence():
    """One of two slots is answered whole, the other one word short; what lies beyond is no slot."""
    tags = ["O", "B-x", "I-x", "B-y"]
    true, answered = [1, 2, 0, 3, 0], [1, 0, 0, 3, 3]
    part = ragged([np.zeros(5, np.int32)], [np.array(true)], 6)
    answers = np.array([[*answered, 1]]).T
    counts = tagging.tally(part, answers, tags, ["x", "y"])
    assert counts.tolist() == [[0, 1, 1], [1, 2, 1]]
    # precision 1 / 3, recall 1 / 2: 2 (1/6) / (5/6) = 2/5
    assert tagging.f1(counts.sum(axis=0)) == pytest.approx(0.4)
    assert tagging.f1(np.zeros(3, int)) == 0


def test_words_that_training_has_not_are_unknown(folder):
    found = data.slots(folder)
    found.test_x[0][0] = WORDS.index("noon")  # never said in training
    training, held, test, vocabulary = tagging.parts(found, toy(folder))
    assert int(test.words[0, 0]) == tagging.UNKNOWN
    assert vocabulary == len(WORDS) - 3 + 1  # no from, to or noon; one unknown
    assert training.words.shape[1] == 160
    assert held.words.shape[1] == 40
    there = np.arange(len(training.words))[:, None] < np.asarray(training.lengths)
    assert (np.asarray(training.words)[there] != tagging.UNKNOWN).all()


def shown(found, x, y):
    return [(found.words[a], found.tags[b]) for a, b in zip(x, y, strict=True)]


def test_requests_are_made_with_the_slot_of_every_word():
    """As many as wanted, all different; what stands before or after words names their slot."""
    found = data.requests(400, 80)
    assert (len(found.train_x), len(found.test_x)) == (400, 80)
    both = zip(found.train_x + found.test_x, found.train_y + found.test_y, strict=True)
    pairs = [shown(found, x, y) for x, y in both]
    assert len({tuple(request) for request in pairs}) == 480
    names_next = {
        "from": "B-fromloc.city_name",
        "into": "B-toloc.city_name",
        "via": "B-stoploc.city_name",
    }
    seen, followed = set(), set()
    for (word, tag), (later, its) in itertools.chain(*map(itertools.pairwise, pairs)):
        assert not its.startswith("I-") or tag[2:] == its[2:]  # I goes on with B of its kind
        if word in names_next:
            assert its == names_next[word]
            seen.add(word)
        if later in ("bound", "departures", "arrivals") and tag != "O":
            followed.add((later, tag[2:].split("_")[0].split(".")[0]))
    assert seen == set(names_next)
    assert followed == {
        ("bound", "toloc"),
        ("departures", "depart"),
        ("departures", "fromloc"),
        ("arrivals", "arrive"),
        ("arrivals", "toloc"),
    }
    again = data.requests(400, 80)
    assert all(map(np.array_equal, found.test_y, again.test_y))
    with pytest.raises(ValueError, match="need one request or more of each part"):
        data.requests(10, 0)


def test_requests_share_none_between_the_parts_and_say_new_cities_in_the_test():
    found = data.requests(400, 80)
    train, test = ({tuple(x.tolist()) for x in part} for part in (found.train_x, found.test_x))
    assert not train & test
    said = {found.words[a] for x in found.train_x for a in x}
    assert not said & {"nashville", "tampa", "toronto"}
    assert {found.words[a] for x in found.test_x for a in x} & {"nashville", "tampa", "toronto"}


def test_the_most_frequent_tag_knows_words_and_no_order():
    """Word 1 is mostly tag 2, word 2 tag 1; word 3 is not known, and 1 is the commonest tag."""
    known = ragged([np.array([1, 1, 2]), np.array([1, 2, 2, 2])], [[2, 2, 1], [0, 1, 1, 1]], 5)
    asked = ragged([np.array([2, 1, 3]), np.array([1])], [[0, 0, 0], [0]], 3)
    assert most_frequent(known, asked, 3)[:, 0].tolist() == [1, 2, 1]
    assert (
        tagging.accuracy(ragged([np.array([1, 2])], [[2, 1]], 4), np.array([[2, 0, 0, 0]]).T) == 0.5
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where it was made and what came out: one run for all tests that look at one."""
    place = tmp_path_factory.mktemp("tagging")
    config = toy(made(place / "toy"))
    return place, config, tagging.run(config, harness.Record(place / "whole"))


@pytest.mark.slow
def test_a_slot_that_hangs_on_the_next_word_takes_both_directions(trained):
    result = trained[2]
    scores = tagging.f1(result.counts.sum(axis=2))  # (cells, seeds)
    # one direction must guess the first city of a sentence, which is half of the slots, and
    # guesses half of these wrong: F1 is 0.75, with 40 sentences +- 0.04
    assert scores[0].max() < 0.9
    assert scores[1].min() > 0.95
    assert result.counts[1, 0, :, 2].sum() == 80
    assert np.isfinite(result.losses).all()
    assert (result.diverged == -1).all()
    assert len(tagging.plot(result).axes) == 2
    assert [row[0] for row in tagging.table(result).rows[1:]] == list(result.cells)
    assert tagging.f1(result.baseline.sum(axis=0)) < 0.6  # a city is as often from as to


def test_jordan_feeds_back_as_many_outputs_as_there_are_tags():
    for name in ("jordan", "jordan.softmax", "taught.jordan.softmax"):
        assert tagging.recurrence(name, 7).init.m == 7
    for name in ("taught.gru", "taught.jordan", "taught.bidirectional.jordan.softmax"):
        with pytest.raises(ValueError, match=r"only jordan\.softmax can be taught"):
            tagging.recurrence(name, 7)


@pytest.mark.slow
def test_jordan_remembers_what_it_said_and_nothing_else(tmp_path):
    """The tag of "and" and "at" is O, and so the second city is a guess, as the first one is: F1 is
    0.5, where one direction of Elman has 0.75. It knows which word of a city it is at."""
    cells = "jordan.softmax", "taught.jordan.softmax"
    config = toy(made(tmp_path / "toy"), cells=cells, seeds=1)
    result = tagging.run(config, harness.Record(tmp_path / "whole"))
    scores = tagging.f1(result.counts.sum(axis=2))
    assert ((scores > 0.4) & (scores < 0.65)).all()


@pytest.mark.slow
def test_killed_and_resumed_ends_the_same(trained):
    """As the first network of the run that was not killed."""
    place, config, whole = trained
    config = replace(config, cells=config.cells[:1])
    require_resumed(partial(tagging.run, config), place, whole=whole)


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("toy.train.query.csv", None, FileNotFoundError, r"0 files \*.train.query.csv"),
        ("toy.test.slots.csv", "5 5\n", ValueError, "40 sentences"),
        ("toy.test.query.csv", "0 x\n", ValueError, "line 1 of .* whole numbers"),
        ("toy.test.query.csv", "0 10\n", ValueError, "numbers from 0 to 9"),
        ("toy.test.query.csv", "\n", ValueError, "line 1"),
        ("toy.test.query.csv", "", ValueError, "no sentences"),
        ("toy.dict.slots.csv", "O\nx\n", ValueError, "B-kind or I-kind"),
        ("toy.dict.vocab.csv", "a\na\n", ValueError, "different names"),
    ],
)
def test_corrupt_folders_are_refused(folder, name, text, error, message):
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(error, match=message):
        data.slots(folder)


def test_a_sentence_of_more_words_than_tags_is_refused(folder):
    path = folder / "toy.test.slots.csv"
    path.write_text("5\n" + path.read_text().split("\n", 1)[1])
    with pytest.raises(ValueError, match=r"line 1 of .* words"):
        data.slots(folder)


def test_flags_that_cannot_be_run_are_refused(folder):
    with pytest.raises(ValueError, match="requests must be 5 or more"):
        toy(None, requests=4)
    with pytest.raises(ValueError, match="no cell is named"):
        toy(folder, cells=("bidirectional.gro",))
    with pytest.raises(ValueError, match="dropout must be a share"):
        toy(folder, dropout=1.0)
    with pytest.raises(ValueError, match="must leave some of 200"):
        tagging.parts(data.slots(folder), toy(folder, held_out=200))
