"""Engines: prompts in, sampled responses with the log-probs they were sampled with out.

generation.py  what every engine offers
sampling.py    from logits to tokens, with random numbers that belong to a rollout, not to a batch
hf.py          the engine on the policy's own transformers model
divided.py     the work divided over the ranks of a run
vllm/          the engine on vLLM, in a process of its own
choice.py      which of them a spec asks for
"""

from trainer.engines.choice import open_engine as open_engine
from trainer.engines.generation import Counters as Counters
from trainer.engines.generation import Engine as Engine
from trainer.engines.generation import Generation as Generation
from trainer.engines.hf import HfEngine as HfEngine
