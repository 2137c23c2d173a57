"""Dates as people write them, in many languages, and in ISO form."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FORMS = ("full", "long", "medium")  # the short form does not show which number is the month
YEARS = (1900, 2100)


class Dates(NamedTuple):
    """Dates as text and in ISO form, and their languages. No day is in both parts."""

    train_x: list[str]  # "martes, 4 de mayo de 2021"
    train_y: list[str]  # "2021-05-04"
    test_x: list[str]
    test_y: list[str]
    train_language: np.ndarray  # (N,) index of the language
    test_language: np.ndarray  # (M,)


def dates(languages: Sequence[str], train: int, test: int, seed: int = 0) -> Dates:
    """Draw `train` and `test` dates in each language, with full, long and medium form in turn.

    Days are drawn at random from 1900 to 2099. Babel writes them in the forms of CLDR, the Unicode
    repository of date formats. Raises ImportError if Babel is not installed, and ValueError if
    Babel lacks a language, a language is named twice, or there are fewer days than dates.
    """
    try:
        from babel import Locale, UnknownLocaleError
        from babel.dates import format_date
    except ImportError as error:
        raise ImportError(
            "Babel writes the dates, and is not installed: pip install babel, or install recur "
            "with its extra `experiments`"
        ) from error
    if len(set(languages)) < len(languages) or not languages:
        raise ValueError(f"languages must be one or more different names, got {tuple(languages)}")
    first, beyond = (datetime.date(year, 1, 1).toordinal() for year in YEARS)
    if min(train, test) < 1 or len(languages) * (train + test) > beyond - first:
        raise ValueError(
            f"got {train} + {test} dates in each of {len(languages)} languages; both must be 1 or "
            f"more, and together at most the {beyond - first} days of {YEARS[0]} to {YEARS[1] - 1}"
        )
    rng = np.random.default_rng(seed)
    days = rng.permutation(np.arange(first, beyond))[: len(languages) * (train + test)]
    texts, isos = [], []
    for language, own in zip(languages, days.reshape(len(languages), -1), strict=True):
        try:
            locale = Locale.parse(language)
        except (UnknownLocaleError, ValueError) as error:
            raise ValueError(
                f"Babel has no language {language!r} ({error}); use a CLDR name, such as de"
            ) from error
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
