"""What the rest of Asym may know of the trainer: the job spec, the data rows, the events and the metric keys.

Everything in this package imports pydantic and the standard library (and pyarrow, lazily, to read Parquet; httpx in
`outgoing`), never torch, so that an API host can validate a job without a deep-learning stack installed.
"""

from trainer.spec.job import JobSpec as JobSpec
