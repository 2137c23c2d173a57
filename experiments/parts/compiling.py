"""How hard XLA should try: programs that run once cost more to compile than to run."""

from collections.abc import Callable
from typing import Any

import jax
import jaxlib

# compiled in a fifth of the time, at a third of the speed: on a CPU, of which this is true
LIGHTLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
if jaxlib.__version__.startswith("0.10."):  # other versions may not know it, which is an error
    LIGHTLY["xla_cpu_use_fusion_emitters"] = False


def jit_lightly(f: Callable, **arguments: Any) -> jax.stages.Wrapped:
    """`jax.jit` for a program that runs once or twice: compiled without most optimisations.

    Results differ from those of an optimised program by rounding. Takes the arguments of `jax.jit`.
    """
    options = LIGHTLY if jax.default_backend() == "cpu" else None
    return jax.jit(f, compiler_options=options, **arguments)
