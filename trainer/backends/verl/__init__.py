"""A job spec as a verl 0.9.1 run on Ray: the same advantages, prompts and verifiers; verl samples, updates and shards.

    run.py          the run: checks, files, verl as a child process, its numbers as our events
    overrides.py    the spec as Hydra overrides of verl's configuration
    estimator.py    our advantages as a verl plugin (imported by verl)
    reward.py       our verifiers as verl's custom reward function (imported by verl's reward workers)
    data.py         prompts and answers as verl's Parquet
    metrics.py      verl's metrics under our keys
    group_log.py    the groups' metrics, which the estimator takes
    following.py    verl's log, told as events while it grows
    child.py        the verl process
    preparation.py  the model's folder and the data files
    validation.py   verl's validation samples as our evaluation metrics
    checkpoints.py  verl's checkpoint folders
    environment.py  whether the interpreter that is to run verl has what it needs

What verl cannot do as the spec says is in `trainer.spec.backend`. Nothing here imports verl but estimator.py.
"""
