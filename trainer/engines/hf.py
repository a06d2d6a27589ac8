"""The engine on the policy's own transformers model: always the current weights, any device, no extra memory for them.

Each prompt is computed once and its key-value cache is handed to all of its rollouts. Finished rollouts leave the
batch at once. Batches are formed by length under a token budget; it bounds memory and has no say in what is sampled.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from transformers import DynamicCache

from trainer.bfloat16_products import bfloat16_products
from trainer.engines.generation import Counters, Generation, check_request
from trainer.engines.reserved_cache import keep_rows, kept_rows, reserve
from trainer.engines.sampling import sample, uniforms
from trainer.models.policy import Policy, autocast, position_ids
from trainer.sharding import whole

Rollout = tuple[int, int]
"""(prompt index, sample index)"""


class HfEngine:
    """Samples from `policy` by its own forward pass (`trainer.engines.generation.Engine`).

    compute_dtype: float32 or bfloat16 (autocast); logits and softmax are float32 either way.
    max_batch_tokens: most rollouts at a time x (longest prompt + max_new_tokens); one rollout may exceed it alone.
    """

    def __init__(
        self, policy: Policy, *, compute_dtype: torch.dtype = torch.float32, max_batch_tokens: int = 65536
    ) -> None:
        self.policy = policy
        self.compute_dtype = compute_dtype
        self.max_batch_tokens = max_batch_tokens
        self.counters = Counters()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        samples_per_prompt: int,
        temperature: float,
        max_new_tokens: int,
        seed: tuple[int, ...],
        only: Sequence[int] | None = None,
    ) -> list[Generation]:
        """See `Engine.generate`; `only`: the prompts to answer, as they would be among all (None: all). Weights
        that are spread over the ranks are gathered for the call, once, so that no rank waits for another's token.

        Another batching can change a sample only where rounding moves a probability across the number drawn (about one
        token in a million); the same batching gives the same bits on a CPU.
        """
        check_request(prompts, samples_per_prompt, temperature, max_new_tokens)
        was_training = self.policy.model.training
        self.policy.model.eval()
        done: list[Generation] = []
        try:
            # One autocast region, and no_grad: inference_mode would turn autocast's cache off and with it cast every
            # weight again at every token.
            with whole(self.policy), torch.no_grad(), autocast(self.policy.device, self.compute_dtype):
                chosen = range(len(prompts)) if only is None else only
                for batch in self._batches(prompts, chosen, samples_per_prompt, max_new_tokens):
                    done += self._generate_batch(prompts, batch, samples_per_prompt, temperature, max_new_tokens, seed)
        finally:
            self.policy.model.train(was_training)
        return sorted(done, key=lambda generation: (generation.prompt_index, generation.sample_index))

    def weights_changed(self) -> None:
        """Nothing to do: it computes with the policy's own weights."""

    def _batches(
        self, prompts: Sequence[Sequence[int]], chosen: Sequence[int], samples: int, max_new_tokens: int
    ) -> Iterator[list[int]]:
        """Prompt indices, longest first, as many as fit the budget with all their rollouts, at least one."""
        batch: list[int] = []
        for index in sorted(chosen, key=lambda i: -len(prompts[i])):
            if batch and (len(batch) + 1) * samples > self._max_rows(len(prompts[batch[0]]), max_new_tokens):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _max_rows(self, prompt_length: int, max_new_tokens: int) -> int:
        return max(1, self.max_batch_tokens // (prompt_length + max_new_tokens))

    def _generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        batch: list[int],
        samples: int,
        temperature: float,
        max_new_tokens: int,
        seed: tuple[int, ...],
    ) -> list[Generation]:
        """All rollouts of the prompts `batch`: prefilled together, decoded in one go unless one prompt's exceed the
        budget alone."""
        device = self.policy.device
        width = max(len(prompts[index]) for index in batch)
        input_ids = torch.full((len(batch), width), self.policy.pad_id)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, index in enumerate(batch):
            start = width - len(prompts[index])  # Padding on the left: all responses begin at the same column.
            input_ids[row, start:] = torch.tensor(list(prompts[index]))
            mask[row, start:] = 1
        mask = mask.to(device)
        cache = DynamicCache(config=self.policy.model.config)
        hidden = self._forward(input_ids.to(device), mask, position_ids(mask), cache)
        self.counters.prefill_passes += 1
        self.counters.prefill_tokens += int(mask.sum())

        places = [(row, sample_index) for row in range(len(batch)) for sample_index in range(samples)]
        at_once = self._max_rows(width, max_new_tokens)
        done: list[Generation] = []
        for start in range(0, len(places), at_once):
            chunk = places[start : start + at_once]
            rows = torch.tensor([row for row, _ in chunk], device=device)
            rollouts = [(batch[row], sample_index) for row, sample_index in chunk]
            random = uniforms(seed, rollouts, max_new_tokens).to(device)
            decode = _Decode(
                rollouts,
                random,
                reserve(cache, rows, max_new_tokens, self.compute_dtype),
                mask[rows],
                temperature,
                max_new_tokens,
            )
            done += self._decode(decode, hidden[rows])
        return done

    def _decode(self, decode: "_Decode", hidden: torch.Tensor) -> list[Generation]:
        """Token by token until every rollout has ended; `hidden` [rows, D] are the prompts' last states."""
        # As trainer.logprobs does: operands in the dtype of the hidden states, products and sums in float32.
        head = self.policy.lm_head_weight.to(hidden.dtype).float()
        products = bfloat16_products if hidden.dtype == torch.bfloat16 else nullcontext
        eos = torch.tensor(sorted(self.policy.eos_ids), device=hidden.device)
        while True:
            with torch.autocast(hidden.device.type, enabled=False), products(hidden.device):
                logits = hidden.float() @ head.T
            tokens, logprobs = sample(logits, decode.temperature, decode.next_uniform())
            self.counters.generated_tokens += len(tokens)
            decode.append(tokens, logprobs, torch.isin(tokens, eos))
            if decode.is_over:
                return decode.finished
            hidden = self._forward(decode.last_tokens[:, None], decode.mask, decode.positions[:, None], decode.cache)
            self.counters.decode_passes += 1

    def _forward(
        self, input_ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Hidden states [rows, D] of the last column; appends to `cache`."""
        output = self.policy.backbone(
            input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        hidden: torch.Tensor = output.last_hidden_state[:, -1]
        return hidden


class _Decode:
    """Rollouts on their way: the tensors' rows are those not yet ended. A row that ends becomes a Generation."""

    def __init__(
        self,
        rollouts: list[Rollout],
        random: torch.Tensor,
        cache: DynamicCache,
        prompt_mask: torch.Tensor,
        temperature: float,
        max_new_tokens: int,
    ) -> None:
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.cache = cache
        self.finished: list[Generation] = []
        self._rollouts = rollouts
        self._random = random
        self._length = 0
        rows, width = prompt_mask.shape
        # As wide as it can get, so that a step takes a slice and copies nothing.
        self._mask = torch.ones((rows, width + max_new_tokens), dtype=torch.long, device=prompt_mask.device)
        self._mask[:, :width] = prompt_mask
        self._prompt_width = width
        self._prompt_lengths = prompt_mask.sum(dim=1)
        self._tokens = torch.zeros((rows, max_new_tokens), dtype=torch.long, device=prompt_mask.device)
        self._logprobs = torch.zeros((rows, max_new_tokens), device=prompt_mask.device)

    @property
    def is_over(self) -> bool:
        return not self._rollouts

    @property
    def mask(self) -> torch.Tensor:
        """Attention mask of the prompts and all tokens so far, the last ones included."""
        return self._mask[:, : self._prompt_width + self._length]

    @property
    def last_tokens(self) -> torch.Tensor:
        return self._tokens[:, self._length - 1]

    @property
    def positions(self) -> torch.Tensor:
        """Position of the last tokens."""
        return self._prompt_lengths + self._length - 1

    def next_uniform(self) -> torch.Tensor:
        return self._random[:, self._length]

    def append(self, tokens: torch.Tensor, logprobs: torch.Tensor, ended: torch.Tensor) -> None:
        """Add one token to every row; rows whose token ended them, or that are full, leave."""
        self._tokens[:, self._length] = tokens
        self._logprobs[:, self._length] = logprobs
        self._length += 1
        truncated = self._length == self.max_new_tokens
        leaving = torch.ones_like(ended) if truncated else ended
        left = leaving.nonzero()[:, 0].tolist()
        if not left:
            return
        ended_rows = ended.tolist()
        for row in left:
            self.finished.append(
                Generation(
                    prompt_index=self._rollouts[row][0],
                    sample_index=self._rollouts[row][1],
                    token_ids=self._tokens[row, : self._length].tolist(),
                    logprobs=self._logprobs[row, : self._length].tolist(),
                    truncated=not ended_rows[row],
                )
            )
        rows = kept_rows((~leaving).tolist())
        self._rollouts = [self._rollouts[row] for row in rows]
        if self._rollouts:
            keep = torch.tensor(rows, device=tokens.device)
            self._random, self._mask, self._prompt_lengths, self._tokens, self._logprobs = (
                tensor[keep]
                for tensor in (self._random, self._mask, self._prompt_lengths, self._tokens, self._logprobs)
            )
            keep_rows(self.cache, rows)
