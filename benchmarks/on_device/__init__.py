"""How fast and how right is this package on an accelerator? One program for ten minutes on one.

    python -m benchmarks.on_device                 on a GPU, 8 minutes
    python -m benchmarks.on_device --rehearse      toy sizes on a CPU, whose times mean nothing

`__main__` starts `worker` in a process of its own and watches it: a part that hangs is ended at its
share of the time, and a measurement that kills its process is noted, and the rest goes on. `worker`
takes the parts in order. A part is a module with a list of jobs; a job is a program that is
compiled in another thread, ahead of its turn, then timed. results.json and summary.md in
results/benchmarks/on_device/ are written anew after each job, whole or not at all, so that a run
that is cut off leaves what it has measured.
"""
