"""Our advantages as an estimator of verl's registry. verl imports this module itself (entry point group
`verl.plugins`) in every process that imports verl; it runs in the one that holds the whole batch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est

from trainer.advantages import advantages, correct_rollouts
from trainer.backends.verl.group_log import append
from trainer.backends.verl.names import ADVANTAGE_FIELDS, CONFIG_KEY, ESTIMATOR, GROUP_LOG
from trainer.group_metrics import group_metrics
from trainer.spec.algorithm import AlgorithmSpec

ANY_STEP = 1
"""verl does not say which step it is; schedules, which alone would ask, are refused (`trainer.spec.backend`)."""


def asym_advantages(
    token_level_rewards: Tensor, response_mask: Tensor, config: Mapping[str, Any], index: np.ndarray
) -> tuple[Tensor, Tensor]:
    """`trainer.advantages.advantages` of the rollouts' rewards, on each token of the response.

    token_level_rewards, response_mask: [N, L]; a rollout's reward is the sum of its row. index: [N], the prompt's id of
    each rollout (verl's uid). config: verl's `algorithm` section, of which `asym` is read. Returns advantages and
    returns, both [N, L] and the same, as verl's own outcome estimators do. ValueError as `advantages`.

    This is where all groups of a step are together, so their metrics are taken here and left in the group log.
    """
    given = config[CONFIG_KEY]
    spec = AlgorithmSpec.model_validate({name: given[name] for name in ADVANTAGE_FIELDS})
    with torch.no_grad():
        rewards = token_level_rewards.sum(dim=-1)
        _, group_ids = np.unique(np.asarray(index).astype(str), return_inverse=True)
        groups = torch.from_numpy(group_ids).to(rewards.device)
        per_rollout = advantages(spec, rewards, groups, ANY_STEP)
        per_token = per_rollout.unsqueeze(-1) * response_mask
        # verl fills a batch up with rollouts of no tokens when some are missing (padding_utils.py).
        real = response_mask.sum(dim=-1) > 0
        correct = correct_rollouts(rewards, spec.success_threshold)
        append(Path(given[GROUP_LOG]), group_metrics(rewards[real], correct[real], groups[real], per_rollout[real]))
    return per_token, per_token


register_adv_est(ESTIMATOR)(asym_advantages)
