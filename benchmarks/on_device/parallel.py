"""Recurrences computed in parallel over time: none yet."""

from benchmarks.on_device.jobs import Job, Skip


def jobs(toy: bool) -> list[Job]:
    """Raises Skip."""
    del toy
    raise Skip("recur has no pass that is parallel in time; its share goes to the parts after it")
