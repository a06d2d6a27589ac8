"""Names that both sides of a verl run use: the process that writes the overrides, and those that verl starts."""

ESTIMATOR = "asym"
"""`algorithm.adv_estimator`."""
CONFIG_KEY = "asym"
"""Where our parameters stand in verl's `algorithm` section."""
ADVANTAGE_FIELDS = (
    "estimator",
    "beta_pos",
    "beta_neg",
    "pos_scale",
    "neg_scale",
    "uniform_groups",
    "success_threshold",
)
"""The fields of `trainer.spec.algorithm.AlgorithmSpec` that advantages depend on; the others become verl's settings."""

GROUP_LOG = "group_log"
"""Beside them: the file of `trainer.backends.verl.group_log`."""

TRAIN_SOURCE = "train"
"""`data_source` of the training rows; validation rows have their benchmark's name."""
