"""A job's metrics, built for long runs: rows as the truth, and beside them a pyramid that is read in their place.

`curve` thins a curve, `levels` says which steps lie in which chunk of which level, `pyramid` writes the chunks,
`reading` answers with a bounded number of points from a bounded number of rows, `changes` tells what is new.
docs/metrics-store.md has the whole of it with figures.
"""
