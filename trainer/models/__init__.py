"""Policies: a model id in, a transformers model with its tokenizer out, ready to be sampled from and trained.

policy.py          what a policy offers to the rest of the trainer
sources.py         from a model id to a folder of weights
folder.py          from a folder to a checked policy; refuses what could not be trained rightly
lora.py            a frozen model with an adapter that is trained; adapters merged into their model
adapter_folder.py  what an adapter is on disk, and which ones are read
made_once.py       folders that are made in place once and verified ever after
tiny_arith.py      builtin/tiny-arith, trained in place
smollm2.py         builtin/smollm2-135m-instruct, unpacked from the package that carries it
"""

from trainer.models.errors import ModelError as ModelError
from trainer.models.policy import Policy as Policy
from trainer.models.policy import autocast as autocast
from trainer.models.policy import backward as backward
from trainer.models.policy import position_ids as position_ids
from trainer.models.sources import load_lora_policy as load_lora_policy
from trainer.models.sources import load_policy as load_policy
