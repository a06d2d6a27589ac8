"""Whether a step changed the weights: a few numbers of every parameter, before and after."""

from collections.abc import Iterable

import torch

_PROBED = 64


class WeightWatch:
    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._before = self._probe()

    def changed(self) -> bool:
        """Since the last call, or since the beginning."""
        before, self._before = self._before, self._probe()
        return not torch.equal(before, self._before)

    def _probe(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten()[:_PROBED].cpu().float() for parameter in self._parameters])
