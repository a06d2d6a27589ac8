"""What runs inside vLLM's worker, beside its model: new weights into the model that is there, without a restart."""

from pathlib import Path
from typing import Any

from safetensors import safe_open


class WeightReceiver:
    """vLLM mixes this class into its worker (`worker_extension_cls`); `collective_rpc` calls it by name."""

    model_runner: Any

    def asym_load_weights(self, file: str) -> None:
        """Put the tensors of a safetensors file, by their checkpoint's names, in the place of the model's weights."""
        with safe_open(Path(file), framework="pt") as tensors:
            # One layer's tensors after the other's, as the names sort: vLLM holds back what is not yet a whole layer.
            weights = ((name, tensors.get_tensor(name)) for name in sorted(tensors.keys()))
            self.model_runner.reload_weights(weights_iterator=weights)
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
