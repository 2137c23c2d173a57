"""Requests to a flight desk, generated from a grammar: words, and the slot that each word fills."""

import numpy as np

from experiments.data.slots import Tagged

# A rule has a name and equally likely alternatives. $name stands for an expansion of that rule, and
# $name/slot for an expansion that is one slot of that kind.
GRAMMAR = """
request: $ask $trip | $ask $trip please | $trip | $front | hello $front
ask: show me | list all | i need | find me | what about | are there any | give me | i am looking for
trip: $trips | $trips | $trips $extra | $trips $extra $extra
trips: flights $route | $airline/airline_name flights $route | $moved | the $adverb $moved
trips: a flight $route on $airline/airline_name
moved: $from departures for $to | $to arrivals from $from | $to bound flights from $from
moved: $d.date departures $route | $a.date arrivals $route | $d.clock departures $route
moved: $a.clock arrivals $route
route: from $from to $to | to $to from $from | between $from and $to | $from to $to | $from $to
route: from $from to $to with a stop in $stop | from $from via $stop to $to | from $from into $to
extra: leaving on $d.date | arriving on $a.date | leaving $d.time | arriving $a.time
extra: on $airline/airline_name | with $airline/airline_name | leaving on $d.date $d.time
extra: that gets in $a.time | in $class/class_type | $airline/airline_name preferred
front: i $want to leave $from for $to $d.when | i $want to arrive in $to from $from $a.when
front: on $d.date i $want to leave $from for $to | on $a.date i $want to arrive in $to from $from
front: $d.time i $want to go $route | can i get to $to $a.when | can i get away from $from $d.when
front: does $airline/airline_name fly $route | from $from i must reach $to $a.when
want: want | would like | have | need | am planning
adverb: earliest | latest | cheapest | first | last
from: $city/fromloc.city_name
to: $city/toloc.city_name
stop: $city/stoploc.city_name
class: first class | business class | coach | economy
airline: delta | united | american | american airlines | continental | northwest | us air
airline: lufthansa | twa | southwest airlines | alaska airlines | air canada
"""
# used twice, with depart and with arrive for KIND, and its first letter for K
TIMES = """
K.when: on $K.date | on $K.date $K.time | $K.time | $K.time on $K.date | $K.relative
K.date: $day/KIND_date.day_name | $month/KIND_date.month_name $number/KIND_date.day_number
K.date: the $number/KIND_date.day_number of $month/KIND_date.month_name
K.date: next $day/KIND_date.day_name
K.relative: $today/KIND_date.today_relative
K.time: $bound/KIND_time.time_relative $clock/KIND_time.time | at $clock/KIND_time.time
K.time: in the $part/KIND_time.period_of_day
K.clock: $clock/KIND_time.time | $part/KIND_time.period_of_day
"""
COMMON = """
day: monday | tuesday | wednesday | thursday | friday | saturday | sunday
month: january | february | march | april | may | june | july | august | september | october
month: november | december
number: first | second | third | fourth | fifth | sixth | tenth | twelfth | fifteenth | twentieth
number: twenty first | thirtieth
today: today | tomorrow | tonight
bound: before | after | around | by
clock: $hour o'clock | $hour $half | noon | midnight | $hour thirty $half
hour: one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve
half: am | pm
part: morning | afternoon | evening
city: boston | denver | atlanta | dallas | pittsburgh | baltimore | philadelphia | oakland | chicago
city: washington | new york | new york city | san francisco | san diego | san jose | st. louis
city: st. paul | salt lake city | kansas city | las vegas | los angeles | fort worth | miami
city: seattle | houston | phoenix | detroit | cleveland | memphis | orlando | charlotte | milwaukee
"""
NEW = (
    "nashville | tampa | cincinnati | long beach | st. petersburg | new orleans | toronto | tacoma"
)


def _rules(text: str) -> dict[str, list[str]]:
    """The alternatives of each name; lines of one name are one rule."""
    rules: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        name, _, alternatives = line.partition(": ")
        rules.setdefault(name, []).extend(alternatives.split(" | "))
    return rules


BOTH = [TIMES.replace("KIND", kind).replace("K.", f"{kind[0]}.") for kind in ("depart", "arrive")]
RULES = _rules(GRAMMAR + "".join(BOTH) + COMMON)


def requests(train: int, test: int, seed: int = 0) -> Tagged:
    """Generate different requests for training and for testing, with no request in both parts.

    Slots are the origin, the destination, a stop, the airline, the class, and the day and time of
    departure or arrival. Which slot a word fills depends on words before it ("arriving on monday"),
    after it ("monday arrivals") or far from it. One in five test cities does not occur in training.
    Raises ValueError if either part would have no request.
    """
    if min(train, test) < 1:
        raise ValueError(f"need one request or more of each part; got {train} and {test}")
    rng = np.random.default_rng(seed)
    more = RULES | {"city": RULES["city"] + NEW.split(" | ")}
    taken: set[tuple] = set()
    parts = [
        _different(rng, rules, count, taken) for rules, count in ((RULES, train), (more, test))
    ]
    every = [pair for part in parts for request in part for pair in request]
    words, tags = (sorted({pair[i] for pair in every}) for i in (0, 1))
    numbers = [{name: number for number, name in enumerate(names)} for names in (words, tags)]
    train_x, train_y, test_x, test_y = (
        [np.array([number[pair[i]] for pair in request], np.int32) for request in part]
        for part in parts
        for i, number in enumerate(numbers)
    )
    return Tagged(train_x, train_y, test_x, test_y, words, tags)


def _different(
    rng: np.random.Generator, rules: dict[str, list[str]], count: int, taken: set[tuple]
) -> list[tuple]:
    """Generate so many requests that are not in `taken`, and add them to it."""
    found: list[tuple] = []
    while len(found) < count:
        request = tuple(said(rng, rules, "request"))
        if request not in taken:
            taken.add(request)
            found.append(request)
    return found


def said(rng: np.random.Generator, rules: dict[str, list[str]], name: str) -> list[tuple[str, str]]:
    """Expand a rule at random into words and their tags, O, B-kind or I-kind."""
    pairs: list[tuple[str, str]] = []
    for token in rules[name][rng.integers(len(rules[name]))].split():
        if not token.startswith("$"):
            pairs.append((token, "O"))
            continue
        rule, _, slot = token[1:].partition("/")
        inner = said(rng, rules, rule)
        if slot:
            inner = [(word, f"{'I' if i else 'B'}-{slot}") for i, (word, _) in enumerate(inner)]
        pairs += inner
    return pairs
