"""How fast and how accurate is recur on an accelerator? One program for ten minutes on one device.

    python -m benchmarks.on_device                 on a GPU, 8 minutes
    python -m benchmarks.on_device --rehearse      toy sizes on a CPU, whose times mean nothing

`__main__` starts `worker` in a separate process and watches it. It ends a part that hangs when its
share of the time is over. If a measurement kills its process, this is recorded, and the rest goes
on. `worker` takes the parts in order. A part is a module with a list of jobs. A job is a program
that is compiled in another thread, ahead of its turn, and then timed. results.json and summary.md
in results/benchmarks/on_device/ are written atomically after each job, so a run that is cut off
keeps its measurements.
"""
