"""What runs inside vLLM's worker, beside its model: new weights into the model that is there, without a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor


class WeightReceiver:
    """vLLM mixes this class into its worker (`worker_extension_cls`); `collective_rpc` calls it by name."""

    model_runner: Any

    def asym_load_weights(self, folder: str) -> None:
        """Put the tensors of a folder's safetensors files, by their checkpoint's names, in the place of the model's
        weights."""
        self.model_runner.reload_weights(weights_iterator=_tensors(Path(folder)))
        self._pack_tied_head()

    def _pack_tied_head(self) -> None:
        """On the CPU the head multiplies by a packed copy of its weight, and a reload packs a layer again when weights
        are loaded into it. Into a head tied to the embeddings none ever are, so it would go on with the old ones."""
        from vllm.platforms import current_platform

        model = self.model_runner.get_model()
        head = getattr(model, "lm_head", None)
        if not current_platform.is_cpu() or not getattr(model.config, "tie_word_embeddings", False) or head is None:
            return
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        dispatch_cpu_unquantized_gemm(head, remove_weight=False)


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """In the order of the files, each of which is a layer: vLLM holds back what is not yet a whole one."""
    for file in sorted(folder.iterdir()):
        with safe_open(file, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                yield name, tensors.get_tensor(name)
