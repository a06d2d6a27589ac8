"""The sampling half of a step: prompts in, groups of verified rollouts out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.advantages import correct_rollouts
from trainer.engines import Engine, Generation
from trainer.judging import Verifier, judge
from trainer.prompts import Prompt, PromptSet
from trainer.response_text import Decoder, TokenEntropies
from trainer.sampling_order import SamplingOrder
from trainer.sequences import Sequences
from trainer.spec.events import Metrics, Rollout
from trainer.spec.job import JobSpec


@dataclass(frozen=True)
class Sampled:
    """One rollout with its verdict. `text` is the response without special tokens, as the verifier saw it."""

    prompt: Prompt
    generation: Generation
    text: str
    reward: float


@dataclass
class Collected:
    """The rollouts of a step, group by group: those of a prompt are neighbours. N rollouts, T response tokens."""

    samples: list[Sampled]
    group_ids: Tensor
    """int64 [N], 0-based in sampling order."""
    rounds: int
    discarded_rollouts: int
    discarded_tokens: int
    errors: dict[str, int]
    """Verifier error -> how many rollouts it cost their reward."""
    messages: dict[str, str]
    """Verifier error -> what was said of the first of them, where anything was."""
    rollout_seconds: float
    reward_seconds: float
    sequences: Sequences = field(init=False)
    rewards: Tensor = field(init=False)
    """float64 [N], as verified."""
    lengths: Tensor = field(init=False)
    """int64 [N]."""

    def __post_init__(self) -> None:
        self.sequences = Sequences(
            [sample.prompt.token_ids for sample in self.samples],
            [sample.generation.token_ids for sample in self.samples],
        )
        self.rewards = torch.tensor([sample.reward for sample in self.samples], dtype=torch.float64)
        self.lengths = self.sequences.response_lengths

    @property
    def logp_engine(self) -> Tensor:
        """float32 [T], packed: what the engine says of its own samples."""
        return torch.tensor([logp for sample in self.samples for logp in sample.generation.logprobs])

    @property
    def texts(self) -> list[str]:
        return [sample.text for sample in self.samples]

    @property
    def truncated(self) -> Tensor:
        """bool [N]."""
        return torch.tensor([sample.generation.truncated for sample in self.samples], dtype=torch.bool)

    def complaints(self) -> dict[str, str]:
        """Verifier error -> a sentence on it."""
        return {
            error: f"{count} verifications failed ({error}), their reward is 0"
            + (f"; the first: {self.messages[error]}" if self.messages[error] else "")
            for error, count in self.errors.items()
        }

    def metrics(self) -> Metrics:
        lengths = self.lengths.double()
        return {
            "rollout/length_mean": lengths.mean().item(),
            "rollout/length_max": int(self.lengths.max()),
            "rollout/truncated_fraction": self.truncated.double().mean().item(),
            "rollout/sampling_rounds": self.rounds,
            "rollout/discarded_rollouts": self.discarded_rollouts,
            "rollout/discarded_tokens": self.discarded_tokens,
            "reward/timeouts": self.errors.get("timeout", 0),
            "reward/errors": sum(self.errors.values()),
            "perf/rollout_seconds": self.rollout_seconds,
            "perf/reward_seconds": self.reward_seconds,
        }

    def token_entropies(self, entropy: Tensor, decode: Decoder) -> TokenEntropies:
        """`entropy`: that of every response token, nats, [T] packed."""
        return TokenEntropies(entropy, (self.lengths.cumsum(0) - self.lengths).tolist(), decode)

    def events(
        self,
        correct: Tensor,
        advantages: Tensor,
        bonus: Tensor | None,
        entropies: Sequence[float | None],
        groups: int,
        tokens: TokenEntropies | None = None,
    ) -> list[Rollout]:
        """The first `groups` groups, as people read them; with `tokens` the entropy of each of their tokens, too."""
        return [
            Rollout(
                **({} if tokens is None else tokens.fields(i, sample.generation.token_ids, sample.text)),
                group=int(self.group_ids[i]),
                sample=sample.generation.sample_index,
                row=sample.prompt.row,
                prompt=sample.prompt.text,
                completion=sample.text,
                answer=sample.prompt.answer,
                reward=sample.reward,
                correct=bool(correct[i]),
                advantage=float(advantages[i]),
                bonus=None if bonus is None else float(bonus[i]),
                tokens=len(sample.generation.token_ids),
                truncated=sample.generation.truncated,
                entropy=entropies[i],
            )
            for i, sample in enumerate(self.samples)
            if self.group_ids[i] < groups
        ]


class Sampler:
    """Draws prompts in their order, lets the engine answer and the verifier judge."""

    def __init__(
        self,
        spec: JobSpec,
        prompts: PromptSet,
        order: SamplingOrder,
        engine: Engine,
        verifier: Verifier,
        decode: Decoder,
    ) -> None:
        self._spec = spec
        self.prompts = prompts
        self._order = order
        self._engine = engine
        self._verifier = verifier
        self._decode = decode

    def collect(self, step: int) -> Collected:
        """Sample `prompts_per_step` groups for `step`.

        With `dynamic_sampling_rounds`, groups without a gradient (all correct or all wrong) are replaced by groups of
        further prompts, as in DAPO (arXiv 2503.14476, section 3.2), for at most so many extra rounds; what is still
        missing then is filled with the uniform groups first drawn, so that a step always has its size.
        """
        wanted = self._spec.optim.prompts_per_step
        extra_rounds = self._spec.algorithm.dynamic_sampling_rounds
        kept: list[list[Sampled]] = []
        spare: list[list[Sampled]] = []
        errors: dict[str, int] = {}
        messages: dict[str, str] = {}
        rollout_seconds = reward_seconds = 0.0
        rounds = 0
        indices = self._order.next_step()
        while True:
            started = time.perf_counter()
            prompts = [self.prompts[i] for i in indices]
            generations = self._engine.generate(
                [prompt.token_ids for prompt in prompts],
                samples_per_prompt=self._spec.rollout.group_size,
                temperature=self._spec.rollout.temperature,
                max_new_tokens=self._spec.rollout.max_new_tokens,
                seed=(self._spec.seed, step, rounds),
            )
            rollout_seconds += time.perf_counter() - started
            started = time.perf_counter()
            texts, verdicts = judge(self._verifier, self._decode, prompts, generations)
            reward_seconds += time.perf_counter() - started
            groups: list[list[Sampled]] = [[] for _ in prompts]
            for generation, text, verdict in zip(generations, texts, verdicts, strict=True):
                groups[generation.prompt_index].append(
                    Sampled(prompts[generation.prompt_index], generation, text, verdict.reward)
                )
                if verdict.error is not None:
                    errors[verdict.error] = errors.get(verdict.error, 0) + 1
                    messages.setdefault(verdict.error, verdict.message)
            rounds += 1
            if extra_rounds == 0:
                kept = groups
                break
            for group in groups:
                (kept if len(kept) < wanted and self._has_gradient(group) else spare).append(group)
            if len(kept) == wanted or rounds > extra_rounds:
                break
            indices = self._order.take(wanted - len(kept))
        missing = wanted - len(kept)
        kept, discarded = kept + spare[:missing], spare[missing:]
        return Collected(
            samples=[sample for group in kept for sample in group],
            group_ids=torch.tensor([i for i, group in enumerate(kept) for _ in group], dtype=torch.int64),
            rounds=rounds,
            discarded_rollouts=sum(len(group) for group in discarded),
            discarded_tokens=sum(len(sample.generation.token_ids) for group in discarded for sample in group),
            errors=errors,
            messages=messages,
            rollout_seconds=rollout_seconds,
            reward_seconds=reward_seconds,
        )

    def _has_gradient(self, group: Sequence[Sampled]) -> bool:
        rewards = torch.tensor([sample.reward for sample in group], dtype=torch.float64)
        if self._spec.algorithm.needs_binary_rewards:
            rewards = correct_rollouts(rewards, self._spec.algorithm.success_threshold).double()
        return bool(rewards.min() < rewards.max())
