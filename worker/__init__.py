"""Workers: claim jobs, run each one's trainer as a subprocess, carry its events into the database, kill it in time.

A worker holds nothing that matters: the jobs row says who runs what, the lease says until when, and a worker that
dies in any way leaves no process behind (`worker.guard`). `python -m worker` is the whole of it.
Imports store and trainer.spec, never torch.
"""
