"""Bonuses: what a response gets for its length or its form, beside the reward and never inside it.

The verifier's reward r alone says what is correct, so groups, channels and pass@k are those of a run without a bonus.
A bonus b shifts the advantage only, by its value against the group's mean, without any scale of the group's:

    A_i = A_i(r) + (b_i - mean of the group's b)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.groups import Groups
from trainer.spec.pattern import compile_pattern
from trainer.spec.reward import FormatBonus, LengthBonus


def length_bonus(bonus: LengthBonus, lengths: Tensor, max_new_tokens: int) -> Tensor:
    """DAPO's soft overlong punishment (arXiv 2503.14476, equation 13, with start = L_max - L_cache, end = L_max).

    lengths: int [N], response tokens. Returns float64 [N]: 0 up to `start`, -weight from `end` on.
    """
    end = bonus.end or max_new_tokens
    return -bonus.weight * ((lengths.double() - bonus.start) / (end - bonus.start)).clamp(0.0, 1.0)


def format_bonus(bonus: FormatBonus, texts: Sequence[str]) -> Tensor:
    """float64 [N]: `weight` where the pattern is found, else 0."""
    pattern = compile_pattern(bonus.pattern)
    found = [pattern.search(text.encode(errors="replace").decode()) is not None for text in texts]
    return torch.tensor(found).double() * bonus.weight


def total_bonus(
    bonuses: Sequence[LengthBonus | FormatBonus], texts: Sequence[str], lengths: Tensor, max_new_tokens: int
) -> Tensor | None:
    """The sum of a spec's bonuses for N responses, float64 [N]; None when it has none."""
    if not bonuses:
        return None
    parts = [
        length_bonus(bonus, lengths, max_new_tokens) if isinstance(bonus, LengthBonus) else format_bonus(bonus, texts)
        for bonus in bonuses
    ]
    # -0.0 prints oddly, and a response within its length has one.
    return torch.stack(parts).sum(0) + 0.0


def shifted(advantages: Tensor, bonus: Tensor | None, group_ids: Tensor) -> Tensor:
    """The advantages [N] plus each rollout's bonus [N] less its group's mean bonus, in the advantages' dtype."""
    if bonus is None:
        return advantages
    groups = Groups.of(group_ids)
    return (advantages.double() + bonus - groups.mean(bonus)[groups.index]).to(advantages.dtype)
