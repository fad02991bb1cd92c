"""One case, from its data to its findings: written, loaded both ways, looked at, judged.

``pipeline`` and ``resuming`` are where to begin reading: the steps, in order, for a loader and for
a resumer. A folder because what a load is held against, and what surrounds it, are subjects of
their own. It knows neither pytest nor Hypothesis, and runs in a worker.
"""
