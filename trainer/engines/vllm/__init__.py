"""The engine on vLLM: paged attention and continuous batching, in a process of its own, weights handed over in place.

engine.py     what the trainer sees: `VllmEngine`
arguments.py  how vLLM is set up, for training and for serving (`trainer.serving.vllm_batch`)
places.py     which GPU each process gets
weights.py    the policy's weights as files that the processes read
process.py    the child process from its parent's side: started, asked, ended
child.py      the child process itself, the only one that imports vllm
worker.py     what runs beside vLLM's model: new weights into it
seeds.py      which random numbers a rollout draws
build.py      which vLLM is installed, and for which device

Nothing here but the child process imports vllm.
"""

from trainer.engines.vllm.arguments import engine_arguments as engine_arguments
from trainer.engines.vllm.arguments import process_environment as process_environment
from trainer.engines.vllm.build import VERSION as VERSION
from trainer.engines.vllm.build import package_for as package_for
from trainer.engines.vllm.build import serves as serves
from trainer.engines.vllm.engine import VllmEngine as VllmEngine
from trainer.engines.vllm.places import places as places
from trainer.engines.vllm.places import visible_gpus as visible_gpus
from trainer.engines.vllm.process import ChildProcess as ChildProcess
from trainer.engines.vllm.seeds import request_seed as request_seed
from trainer.engines.vllm.weights import weights_room as weights_room
from trainer.engines.vllm.weights import write_weights as write_weights
