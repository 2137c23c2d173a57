"""The findings of a report in words, each a pure function of the results.

A finding is None where the numbers that it needs were not measured.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from recur import analysis
from recur.reporting.measurements import Results
from recur.tables import tabled

FAR = np.log(1000)  # an input this many nats below the largest no longer counts
SHUT, OPEN = 0.05, 0.95  # a gate beyond these hardly moves
STUCK = 0.9  # a gate is stuck if at least this share of its values is
ALIKE = 2.0  # singular values are alike if their 90 % and 10 % quantiles are within this ratio
FEWEST = 20  # steps: the standard error needs this many blocks of one step or more
SLOW = 100.0  # steps: a mode with a longer timescale is slow


@tabled()
class Finding(NamedTuple):
    """A question, its answer in one or two words, and a sentence with the numbers."""

    question: str  #: what is asked
    word: str  #: the answer in a word
    sentence: str  #: the answer with its numbers


def stays_finite(results: Results) -> Finding | None:
    """Whether every state and output is finite."""
    question = "Do the numbers stay finite?"
    if results.path is None:
        return None
    t = results.path.overflow
    if t:
        return Finding(
            question,
            "overflow",
            f"After step {t} of {results.network.T} a number in the state or the output is not "
            "finite. Nothing else was measured: scale down the inputs or the weights, or pass only "
            f"the first {t - 1} steps.",
        )
    return Finding(question, "finite", f"They are, at each of the {results.network.T} steps.")


def reach_of_inputs(results: Results) -> Finding | None:
    """The lag beyond which no input counts."""
    question = "How far back does the last output see its inputs?"
    if results.reach is None:
        return None
    lags, largest = np.asarray(results.reach.lags), np.asarray(results.reach.logs)[:, 0]
    known = np.cumsum(np.isnan(largest)) == 0  # up to where rounding hides it, or steps are missing
    if not known.any():
        return Finding(question, "unknown", "Not even the effect of the last input is known.")
    lags, largest = lags[known], largest[known]
    top = largest.max()
    if np.isneginf(top):
        return Finding(question, "not at all", "The last output depends on none of these inputs.")
    seen = lags[largest >= top - FAR].max()
    at = f"{lags[largest.argmax()]}"
    if seen == lags[-1]:
        return Finding(
            question,
            "further",
            f"It sees further than the {lags[-1]} steps measured. There, the largest singular "
            f"value of dh_T/dx is {times(largest[-1] - top)} of its maximum, which is at lag {at}.",
        )
    first = lags[lags > seen].min()
    return Finding(
        question,
        f"{seen} steps",
        f"From lag {first} on, the largest singular value of dh_T/dx is less than a thousandth of "
        f"its maximum, which is at lag {at}.",
    )


def gradients(results: Results) -> Finding | None:
    """Whether gradients vanish, explode or are preserved on their way back."""
    question = "What do gradients do on their way back?"
    if results.gradients is None or results.gradients.shape[-1] < 2:
        return None
    word, rate = analysis.verdict(jnp.asarray(results.gradients))
    lags = results.gradients.shape[-1] - 1
    if word == "unknown":
        return Finding(question, word, "At some steps they are not finite, or masked.")
    if np.isneginf(rate):
        return Finding(question, word, f"Within {lags} steps they become exactly zero.")
    tenfold = f", a factor of ten in {np.log(10) / abs(rate):.3g} steps" if rate else ""
    how = {
        "preserve": f"They change less than tenfold over the {lags} steps measured",
        "vanish": "They shrink",
        "explode": "They grow",
    }[word]
    rates = f"{rate:+.4f} nats per step back"
    return Finding(question, word, f"{how}: {rates}{'' if word == 'preserve' else tenfold}.")


def chaos(results: Results) -> Finding | None:
    """The sign of the largest Lyapunov exponent, with two standard errors and its rounding."""
    question = "Do nearby states converge or diverge?"
    if results.exponents is None:
        return None
    largest, error, rounding = (
        float(np.asarray(field)[0])
        for field in (
            results.exponents.exponents,
            results.exponents.error,
            results.exponents.rounding,
        )
    )
    if largest == -np.inf:
        return Finding(question, "converge", "Every difference becomes exactly zero.")
    if not np.isfinite([largest, error, rounding]).all():
        return Finding(
            question,
            "unknown",
            "The largest exponent or its error is not known: pass more data.",
        )
    margin = 2 * error + rounding
    numbers = f"The largest exponent is {largest:+.4f} +- {margin:.4f} nats per step"
    if abs(largest) <= margin:
        return Finding(
            question, "undecided", f"{numbers}, so its sign is not known: pass more data."
        )
    if largest > 0:
        grows = f"a difference grows by a factor e in {1 / largest:.3g} steps"
        return Finding(
            question, "diverge", f"{numbers}: {grows}. This is chaos if the states are bounded."
        )
    return Finding(
        question,
        "converge",
        f"{numbers}: a difference shrinks by a factor e in {-1 / largest:.3g} steps.",
    )


def settled(results: Results) -> Finding | None:
    """Whether the estimate of the largest exponent moved during the second half."""
    question = "Was the data long enough for the exponents?"
    if results.exponents is None:
        return None
    history = np.asarray(results.exponents.history)
    if len(history) < FEWEST:
        return Finding(
            question, "no", f"Only {len(history)} steps were counted; {FEWEST} are needed."
        )
    known = np.where(np.isnan(history[-1]), -np.inf, history[-1])
    largest = history[:, known.argmax()]
    middle, last = largest[(len(largest) - 1) // 2], largest[-1]
    error = float(np.asarray(results.exponents.error)[0])
    if not np.isfinite([middle, last, error]).all():
        return Finding(question, "unknown", "Too few steps for an estimate at half of them.")
    numbers = f"after half of the {len(largest)} steps counted the largest was {middle:+.4f}"
    numbers += f", at the end it was {last:+.4f} +- {2 * error:.4f}"
    if abs(middle - last) <= 2 * error:
        return Finding(question, "yes", f"They have settled: {numbers}.")
    return Finding(question, "no", f"They still drift: {numbers}. Pass longer data.")


def memories(results: Results) -> Finding | None:
    """How many states the network can stay in while its input is constant."""
    question = "What are its fixed points under a constant input?"
    if results.standstill is None:
        return None
    kept, about = results.standstill.kept, results.standstill.about
    ended = analysis.describe_points(results.standstill.found)
    fixed = np.asarray(kept.fixed)
    slow = int((~fixed).sum())
    if fixed.size == 0:
        return Finding(
            question, "none found", f"No search ended at a fixed or a slow point. {ended}."
        )
    stable = np.asarray(about.stable)
    longest = np.asarray(about.timescales).max(axis=1)
    attractors, others = int((fixed & stable).sum()), int((fixed & ~stable).sum())
    count = f"{attractors} stable and {others} unstable fixed points, {slow} slow ones"
    if slow >= max(attractors, 1) or (longest > SLOW).mean() > 0.5:
        return Finding(
            question,
            "slow points",
            f"{count}. Near most of these, states move away or come back slowly: the slowest mode "
            f"lasts {longest.max():.3g} steps. So it can hold a value for about this long.",
        )
    if attractors > 1:
        return Finding(
            question, f"{attractors} memories", f"{count}. It can hold one of {attractors} states."
        )
    if attractors == 1 and others == 0:
        lasts = longest[fixed & stable].max()
        return Finding(
            question,
            "one stable point",
            f"{count}. No other point was found, so it keeps nothing for long: the slowest mode "
            f"shrinks by a factor e in {lasts:.3g} steps.",
        )
    if attractors == 1:
        return Finding(question, "one attractor", f"{count}. It can rest in one state only.")
    return Finding(
        question,
        "no attractor",
        f"{count}. It keeps moving, or settles where no search went.",
    )


def one_step(results: Results) -> Finding | None:
    """Whether a step treats all directions alike."""
    question = "Does a step treat all directions alike?"
    if results.one_step is None:
        return None
    values = np.asarray(results.one_step.values)
    values = values[~np.isnan(values).all(axis=1)]  # a mask leaves steps out
    if not values.size or np.isnan(values).any():
        return Finding(question, "unknown", "Some singular values are not known.")
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    if high == 0:
        share = f"{np.mean(values == 0):.0%} of the singular values of a step are exactly 0"
        return Finding(question, "most are lost", f"{share}: it keeps little of the last state.")
    numbers = (
        f"80 % of the singular values of a step lie between {low:.3g} and {high:.3g}; the median "
        f"is {middle:.3g} and the largest is {values.max():.3g}"
    )
    if high <= ALIKE * low:
        return Finding(question, "alike", f"{numbers}.")
    return Finding(question, "not alike", f"{numbers}: some directions are lost before others.")


def gates(results: Results, names: Sequence[str] = ()) -> Finding | None:
    """Whether a gate is open, or closed, nearly always."""
    question = "Do the gates move?"
    if not results.gates:
        return None
    stuck, medians = [], []
    for i, values in enumerate(results.gates):
        name, values = gate_name(names, i), np.asarray(values)
        values = values[~np.isnan(values)]  # a mask leaves steps out
        if not values.size:
            return Finding(question, "unknown", f"No value of {name} is known.")
        medians.append(f"{name} {np.median(values):.2f}")
        for state, share in (("closed", np.mean(values < SHUT)), ("open", np.mean(values > OPEN))):
            if share >= STUCK:
                stuck.append(f"{name} is {state} at {share:.0%} of all steps and units")
    numbers = f"Median openness: {', '.join(medians)}."
    if stuck:
        return Finding(question, "some are stuck", f"{'; '.join(stuck)}. {numbers}")
    return Finding(question, "yes", numbers)


def theory(results: Results) -> Finding | None:
    """Whether the prior is ordered, critical or chaotic, for the length of the data."""
    question = "Where does theory put the prior that it was drawn from?"
    if results.theory is None:
        return None
    chi, xi, error = (
        float(np.asarray(value))
        for value in (results.theory.chi, results.theory.xi, results.theory.error.chi)
    )
    T = results.network.T
    numbers = f"At infinite width, a step multiplies a squared difference by chi = {chi:.4g}"
    if abs(chi - 1) <= 2 * error or abs(xi) >= T:
        return Finding(
            question, "critical", f"{numbers}, which is close to 1 for the {T} steps of the data."
        )
    if chi > 1:
        return Finding(
            question, "chaotic", f"{numbers}, so it grows by a factor e in {-xi:.3g} steps."
        )
    return Finding(
        question,
        "ordered",
        f"{numbers}, so it shrinks by a factor e in xi = {xi:.3g} steps; the data has {T}.",
    )


QUESTIONS: tuple[Callable[[Results], Finding | None], ...] = (
    stays_finite,
    reach_of_inputs,
    gradients,
    chaos,
    settled,
    memories,
    one_step,
    theory,
)


def findings(results: Results, names: Sequence[str] = ()) -> list[Finding]:
    """The answers in words, to all questions for which there are numbers.

    Args:
        results: All numbers of a report.
        names: The names of the gates, if they have names.

    Returns:
        The findings, in the order of the page.

    Example:
        >>> from recur import reporting
        >>> network = reporting.Network(m=2, n=2, d=2, T=50, dtype="float32")
        >>> sizes = reporting.Sizes(steps=50, reach=9, lags=9, exponents=2, starts=4, spectra=4)
        >>> reach = reporting.Reach(np.array([0, 3, 9]), np.log([[1.0], [0.5], [1e-4]]))
        >>> for found in reporting.findings(reporting.Results(network, sizes, reach=reach)):
        ...     print(found.question, found.word)
        How far back does the last output see its inputs? 3 steps
    """
    each = [question(results) for question in QUESTIONS]
    each.insert(-1, gates(results, names))
    return [found for found in each if found is not None]


def gate_name(names: Sequence[str], i: int) -> str:
    """The name of gate i."""
    return names[i] if i < len(names) else f"gate {i + 1}"


def times(nats: float) -> str:
    """A factor, from its logarithm, which may be below the range of floats."""
    exponent = nats / np.log(10)
    return f"{np.exp(nats):.3g}" if abs(exponent) < 4 else f"10^{exponent:.1f}"
