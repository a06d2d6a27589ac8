"""The named algorithms: each preset is the set of `algorithm` fields in which it differs from the defaults.

The loop is blind to the preset: it sees the resolved fields only. Numbers and names follow arXiv 2604.04894
(section 4 and its ablations), the members of the family worked out in docs, and DAPO (arXiv 2503.14476) for
`clip_high` 0.28. To add an algorithm that is a point of the family, add a row here.
"""

from typing import Any

CLIP_HIGHER = 0.28

PRESETS: dict[str, dict[str, Any]] = {
    # The +-1 advantage of REINFORCE trains on uniform groups too.
    "reinforce": {"estimator": "asymmetric", "beta_pos": 0.0, "beta_neg": 0.0, "uniform_groups": "keep"},
    # (r - mean) / population std: for binary rewards the same as the family at 0.5 / 0.5, and defined for any reward.
    "grpo": {"estimator": "group_norm"},
    "grpo_entropy": {"estimator": "group_norm", "entropy_coef": 0.001},
    "grpo_clip_higher": {"estimator": "group_norm", "clip_high": CLIP_HIGHER},
    "dr_grpo": {"estimator": "mean_centered", "loss_reduction": "fixed_length"},
    "dapo": {
        "estimator": "group_norm",
        "clip_high": CLIP_HIGHER,
        "mask_truncated": True,
        "dynamic_sampling_rounds": 3,
    },
    # (r - p) / p, arXiv 2602.02710.
    "maxrl": {"estimator": "asymmetric", "beta_pos": 1.0, "beta_neg": 0.0},
    "w_reinforce": {
        "estimator": "asymmetric",
        "beta_pos": 0.0,
        "beta_neg": 0.0,
        "pos_scale": 0.1,
        "uniform_groups": "keep",
    },
    "pos_only": {"estimator": "asymmetric", "beta_pos": 0.5, "beta_neg": 0.0},
    "neg_only": {"estimator": "asymmetric", "beta_pos": 0.0, "beta_neg": 0.5},
    "ent_decrease": {"estimator": "asymmetric", "beta_pos": -0.5, "beta_neg": 0.5},
    "ent_increase": {"estimator": "asymmetric", "beta_pos": 0.5, "beta_neg": -0.5},
    "asymgrpo": {"estimator": "asymmetric", "beta_pos": 0.9, "beta_neg": 0.4},
    "asymgrpo_clip_higher": {
        "estimator": "asymmetric",
        "beta_pos": 0.9,
        "beta_neg": 0.4,
        "clip_high": CLIP_HIGHER,
    },
}
