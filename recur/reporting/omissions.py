"""What a report did not measure, so that readers do not draw conclusions about it."""

from recur.reporting.measurements import Results


def omissions(results: Results) -> list[str]:
    """What the sizes have left out of the parts that were measured."""
    network, sizes = results.network, results.sizes
    T, S = network.T, sizes.steps
    if results.path is not None and results.path.overflow:
        return ["all but the first answer: the network overflows"]
    found = (
        (T > S, results.path, f"all but the network itself: the first {T - S} of {T} steps"),
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
            f"fixed points: what {sizes.starts} searches under one held input did not meet",
        ),
        (True, results.theory, "theory: weights that stay the same, which theory.tied describes"),
    )
    return [text for left_out, part, text in found if left_out and part is not None]
