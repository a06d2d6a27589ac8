"""What a step's groups look like: accuracy, how many carry a contrast, rewards, and pass@k over the training prompts.

Owns the `group/`, `reward/mean|std` and `pass_at_k/train/` keys. Everything is counted in whole numbers or summed
exactly, so the order of the rollouts never shows.
"""

import math

from torch import Tensor

from trainer.coverage import mean_pass_at_k
from trainer.groups import Groups
from trainer.spec.events import Metrics


def group_metrics(rewards: Tensor, correct: Tensor, group_ids: Tensor, advantages: Tensor) -> Metrics:
    """Metrics of one step's N rollouts, given in any order.

    rewards: float [N], raw. correct: bool [N]. group_ids: int [N]. advantages: float [N].
    `group/accuracy` is the mean of the groups' accuracies, each group counting the same whatever its size;
    `group/effective` the share of groups with any advantage other than 0, the ones whose rewards the update learns
    from (the advantages given here are those of the rewards, without a bonus);
    `group/histogram` how many groups have 0, 1, ... n correct, n the largest group's size.
    `pass_at_k/train/{k}` is there for the powers of two up to the smallest group's size: pass@k of a group below k is
    not defined. ValueError for empty input and lengths that differ.
    """
    for name, tensor in {"correct": correct, "group_ids": group_ids, "advantages": advantages}.items():
        if tensor.shape != rewards.shape:
            raise ValueError(f"{name} must be {tuple(rewards.shape)} as rewards, got {tuple(tensor.shape)}")
    groups = Groups.of(group_ids)
    sizes: list[int] = groups.sizes.tolist()
    solved: list[int] = groups.sum(correct.long()).tolist()
    effective = int((groups.maximum(advantages.abs()) > 0).sum())
    none_solved = sum(c == 0 for c in solved)
    all_solved = sum(c == n for n, c in zip(sizes, solved, strict=True))
    histogram = [0] * (max(sizes) + 1)
    for c in solved:
        histogram[c] += 1

    values: list[float] = rewards.double().tolist()
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    metrics: Metrics = {
        "group/accuracy": math.fsum(c / n for n, c in zip(sizes, solved, strict=True)) / len(sizes),
        "group/none_solved": none_solved / len(sizes),
        "group/mixed": (len(sizes) - none_solved - all_solved) / len(sizes),
        "group/all_solved": all_solved / len(sizes),
        "group/effective": effective / len(sizes),
        "group/histogram": histogram,
        "group/size_min": min(sizes),
        "group/size_max": max(sizes),
        "reward/mean": mean,
        # A verifier that always says 0.1 has no spread, whatever the mean of its rewards rounds to.
        "reward/std": 0.0 if min(values) == max(values) else math.sqrt(variance),
    }
    counts = list(zip(sizes, solved, strict=True))
    k = 1
    while k <= min(sizes):
        metrics[f"pass_at_k/train/{k}"] = mean_pass_at_k(counts, k)
        k *= 2
    return metrics
