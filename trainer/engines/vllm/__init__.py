"""The engine on vLLM: paged attention and continuous batching, in a process of its own, weights handed over in place.

engine.py     what the trainer sees: `VllmEngine`
places.py     which GPU each process gets
weights.py    the policy's weights as files that the processes read
process.py    the child process from its parent's side: started, asked, ended
child.py      the child process itself, the only one that imports vllm
worker.py     what runs beside vLLM's model: new weights into it
seeds.py      which random numbers a rollout draws
build.py      which vLLM is installed, and for which device

Nothing here but the child process imports vllm.
"""

from trainer.engines.vllm.build import VERSION as VERSION
from trainer.engines.vllm.build import package_for as package_for
from trainer.engines.vllm.build import serves as serves
from trainer.engines.vllm.engine import VllmEngine as VllmEngine
from trainer.engines.vllm.places import places as places
from trainer.engines.vllm.places import visible_gpus as visible_gpus
