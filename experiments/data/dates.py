"""Dates as people write them, in many languages, and in ISO form."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FORMS = ("full", "long", "medium")  # the short one leaves open which number is the month
YEARS = (1900, 2100)


class Dates(NamedTuple):
    """Texts, their dates, and their languages; no day is in both parts."""

    train_x: list[str]  # "martes, 4 de mayo de 2021"
    train_y: list[str]  # "2021-05-04"
    test_x: list[str]
    test_y: list[str]
    train_language: np.ndarray  # (N,) number of the language
    test_language: np.ndarray  # (M,)


def dates(languages: Sequence[str], train: int, test: int, seed: int = 0) -> Dates:
    """So many dates of each language in either part, in its full, long and medium form by turns.

    Days from 1900 to 2099, drawn at random; the forms are CLDR's, as Babel writes them. Raises
    ImportError where Babel is not installed, and ValueError for a language that it has not, for
    one named twice, and for more dates than there are days.
    """
    try:
        from babel import Locale, UnknownLocaleError
        from babel.dates import format_date
    except ImportError as error:
        raise ImportError(
            "dates are written by Babel, which is not installed: pip install babel, or recur with "
            "its extra `experiments`"
        ) from error
    if len(set(languages)) < len(languages) or not languages:
        raise ValueError(f"languages are one or more different names, got {tuple(languages)}")
    first, beyond = (datetime.date(year, 1, 1).toordinal() for year in YEARS)
    if min(train, test) < 1 or len(languages) * (train + test) > beyond - first:
        raise ValueError(
            f"{train} + {test} dates in each of {len(languages)} languages: one or more of each, "
            f"and not more than the {beyond - first} days of {YEARS[0]} to {YEARS[1] - 1}"
        )
    rng = np.random.default_rng(seed)
    days = rng.permutation(np.arange(first, beyond))[: len(languages) * (train + test)]
    texts, isos = [], []
    for language, own in zip(languages, days.reshape(len(languages), -1), strict=True):
        try:
            locale = Locale.parse(language)
        except (UnknownLocaleError, ValueError) as error:
            raise ValueError(f"Babel has no language {language!r} ({error}); take: de") from error
        every = [datetime.date.fromordinal(day) for day in own.tolist()]
        texts.append([format_date(day, FORMS[i % 3], locale) for i, day in enumerate(every)])
        isos.append([day.isoformat() for day in every])
    train_x, train_y, test_x, test_y = (
        [text for row in rows for text in row[part]]
        for part in (slice(train), slice(train, None))
        for rows in (texts, isos)
    )
    number = np.arange(len(languages))
    spoken = np.repeat(number, train), np.repeat(number, test)
    return Dates(train_x, train_y, test_x, test_y, *spoken)
