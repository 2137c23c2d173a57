"""What a report did not measure, so that readers draw no conclusions about it."""

from recur.reporting.measurements import Results


def omissions(results: Results) -> list[str]:
    """What was left out of the parts that were measured."""
    network, sizes = results.network, results.sizes
    T, S = network.T, sizes.steps
    if results.path is not None and results.path.overflow:
        return ["everything but the first answer: the network overflows"]
    found = (
        (T > S, results.path, f"all analyses: the first {T - S} of {T} steps"),
        (sizes.reach < T - 1, results.reach, f"reach of inputs: lags beyond {sizes.reach}"),
        (sizes.lags < T - 1, results.gradients, f"gradients: lags beyond {sizes.lags}"),
        (
            sizes.exponents < network.m,
            results.exponents,
            f"Lyapunov exponents: all but the largest {sizes.exponents} of {network.m}",
        ),
        (
            sizes.spectra < S,
            results.one_step,
            f"single steps: all but {sizes.spectra} of {S}",
        ),
        (
            True,
            results.standstill,
            f"fixed points: those that {sizes.starts} searches under one input did not find",
        ),
        (True, results.theory, "theory: tied weights, which theory.tied describes"),
    )
    return [text for left_out, part, text in found if left_out and part is not None]
