"""One of several ranks with rollout.engine vllm:  python rank.py RANK RANKS RENDEZVOUS CACHE ORDER

ORDER is JSON: {model, lora, gpus}. The policy is spread over the ranks; each update, which all of them make together,
is followed by a generation, which is compared with what the trainer scores. Writes one JSON line per round:
{"responses": ..., "largest": the largest difference of a log-prob, "stale": the same without the hand-over}.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from trainer.engines.choice import open_engine
from trainer.event_stream import EventStream
from trainer.forward import response_statistics, score
from trainer.models import load_lora_policy, load_policy
from trainer.ranks import World, join
from trainer.sequences import Sequences, shares
from trainer.sharding import shard
from trainer.spec import JobSpec
from trainer.update import make_optimizer

TEXTS = ["12+34=", "5+6=", "70+81=", "9+9=", "31+4="]


def spec_of(order: dict[str, Any]) -> JobSpec:
    own = order["gpus"]
    return JobSpec.model_validate(
        {
            "name": "ranks",
            "model": {"id": order["model"], "lora": order["lora"]},
            "data": {"train": "none.jsonl", "max_prompt_tokens": 40},
            "reward": {"kind": "exact"},
            "rollout": {"engine": "vllm", "max_new_tokens": 16, "vllm": {"gpus": own}},
            "optim": {"lr": 3e-2 if order["lora"] else 1e-2},
            "resources": {"gpus": own + 1} if own else {},
        }
    )


def run(world: World, cache: Path, order: dict[str, Any]) -> None:
    spec = spec_of(order)
    places: dict[str, Any] = {"model_dir": None, "cache_dir": cache, "models_dir": None, "device": "cpu"}
    if spec.model.lora is None:
        policy = load_policy(spec.model.id, **places)
    else:
        policy = load_lora_policy(spec.model.id, spec.model.lora, 0, adapter_dir=None, **places)
    if world.size > 1:
        shard(policy, world)
    optimizer = make_optimizer(policy, spec.optim)
    prompts = [policy.tokenizer(text)["input_ids"] for text in TEXTS]

    def update() -> None:
        of_ranks = shares(Sequences(prompts, [[3, 4, 5, 6]] * len(prompts)), world.size)
        batches = [Sequences([prompts[i] for i in own], [[3, 4, 5, 6]] * len(own)) for own in of_ranks]
        beside = [batch for rank, batch in enumerate(batches) if rank != world.rank]
        for statistics in response_statistics(policy, batches[world.rank], 1.0, torch.float32, 4096, beside):
            (-statistics.logp.sum() / 20).backward()
        optimizer.step()
        optimizer.zero_grad()

    with open_engine(spec, policy, torch.float32, EventStream(sys.stderr), world) as engine:

        def sampled() -> tuple[list[Any], float]:
            generations = engine.generate(prompts, samples_per_prompt=4, temperature=1.0, max_new_tokens=8, seed=(3, 1))
            sequences = Sequences([prompts[g.prompt_index] for g in generations], [g.token_ids for g in generations])
            expected = score(policy, sequences, 1.0, torch.float32, 4096, world)[0]
            found = torch.tensor([logprob for g in generations for logprob in g.logprobs])
            responses = [[g.prompt_index, g.sample_index, g.token_ids] for g in generations]
            return responses, float((found - expected).abs().max())

        for number in range(3):
            stale = None
            if number:
                update()
                stale = sampled()[1]
                engine.weights_changed()
            responses, largest = sampled()
            memory = world.max(engine.counters.memory_bytes or 0)
            print(
                json.dumps({"responses": responses, "largest": largest, "stale": stale, "memory": memory}), flush=True
            )


def main() -> None:
    rank, size, rendezvous, cache = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    order = json.loads(sys.argv[5])
    if size == 1:
        run(World(), cache, order)
    else:
        with join(rank, size, rendezvous, on_cpu=True) as world:
            run(world, cache, order)


if __name__ == "__main__":
    main()
