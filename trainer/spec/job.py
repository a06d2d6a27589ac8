"""The job spec: everything a run is made of, in one frozen object. Unknown keys are errors.

`JobSpec.model_validate(dict)` resolves presets and defaults; `model_dump(mode="json")` is the resolved spec, which
validates to itself.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.backend import Backend
from trainer.spec.base import Real, SpecPart
from trainer.spec.model import ModelSpec
from trainer.spec.reward import RewardSpec as RewardSpec

Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
DataRef = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
"""`ds_...` in a job of the service; a path of a local file for `asym train`."""
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]
"""What an operator calls a worker: `a100`, `rack-7`."""


CHAT_TEMPLATE_RESERVED = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "max_length",
    "messages", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip
"""What transformers' apply_chat_template takes itself: a job's spec must not bring a template of its own."""


class Columns(SpecPart):
    """Where a row keeps its prompt and its answer; a dot goes into a nested object (`reward_model.ground_truth`)."""

    prompt: str | None = None
    """None: the first of the known columns that a row has."""
    answer: str | None = None
    """None: likewise."""


class DataSpec(SpecPart):
    train: DataRef
    """A data set's id, ds_...; a file for `asym train` and `asym submit`."""
    columns: Columns = Columns()
    max_prompt_tokens: Count = 512
    """Longer prompts are dropped and counted, never cut."""
    system_prompt: str | None = None
    """Takes the place of a system message that a row brings."""
    prompt_template: str | None = None
    """Text with `{prompt}` in it, put around the last user message."""
    chat_template_kwargs: dict[str, bool | int | str] = Field(default={})
    """What the model's chat template is told besides the messages, e.g. `enable_thinking: false` for Qwen3."""

    @model_validator(mode="after")
    def _template_has_its_slot(self) -> Self:
        if self.prompt_template is not None and "{prompt}" not in self.prompt_template:
            raise ValueError("prompt_template must contain {prompt}")
        return self

    @model_validator(mode="after")
    def _chat_template_keeps_its_own(self) -> Self:
        taken = sorted(CHAT_TEMPLATE_RESERVED & self.chat_template_kwargs.keys())
        if taken:
            raise ValueError(f"chat_template_kwargs must not hold {', '.join(taken)}: only what the template reads")
        return self


EngineName = Literal["auto", "hf", "vllm"]
"""What draws: vLLM, the policy's own transformers model (hf), or the first where it can be (auto)."""


class VllmSpec(SpecPart):
    """How the vLLM engine shares the device with the trainer; the other engines read none of it."""

    gpus: Annotated[int, Field(ge=0, le=63)] = 0
    """Of the job's `resources.gpus`, how many only generate, with an engine each. 0: each GPU trains and generates."""
    gpu_memory_utilization: Annotated[Real, Field(gt=0, le=1)] | None = None
    """Of the GPU's memory, for weights and key-value cache while it generates. None: 0.5; 0.9 on GPUs of its own."""
    max_model_len: Count | None = None
    """Longest prompt and response together; None: what `data` and `rollout` allow."""
    enforce_eager: bool = False
    """No compilation, no CUDA graphs: slower, and sooner started. A CPU is always eager."""
    sleep: bool = True
    """Give the GPU's memory back between generations, to the updates."""

    TEMPERATURES: ClassVar[str] = "vLLM samples at temperature 0 and from 0.01 to 2.0"

    @property
    def memory_share(self) -> float:
        """What `gpu_memory_utilization` comes to."""
        return self.gpu_memory_utilization or (0.9 if self.gpus else 0.5)

    @staticmethod
    def samples_at(temperature: float) -> bool:
        return temperature == 0 or 0.01 <= temperature <= 2.0


class RolloutSpec(SpecPart):
    engine: EngineName = "auto"
    """auto: vLLM on a GPU where it is installed, else the policy's own transformers model (hf)."""
    group_size: Annotated[int, Field(ge=2, le=4096)] = 8
    """Responses to each prompt: a group."""
    temperature: Annotated[Real, Field(gt=0, le=10)] = 1.0
    """Of sampling; log-probs and entropies are taken at it, too."""
    max_new_tokens: Count = 512
    """Longer responses are cut there."""
    vllm: VllmSpec = VllmSpec()


class OptimSpec(SpecPart):
    """AdamW. A step samples `prompts_per_step` prompts and makes one update per `prompts_per_update` of them."""

    lr: Annotated[Real, Field(gt=0)] = 2.0e-6
    """Learning rate, after the warmup."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: Annotated[Real, Field(ge=0)] = 0.0
    """AdamW's."""
    adam_beta1: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[Real, Field(ge=0, lt=1)] = 0.999
    prompts_per_step: Count = 128
    """Prompts sampled in a step."""
    prompts_per_update: Count | None = None
    """None: one update per step."""
    max_grad_norm: Annotated[Real, Field(gt=0)] = 1.0
    """A larger gradient is scaled down to it."""
    max_tokens_per_micro_batch: Literal["auto"] | Count = "auto"
    """Prompt and response tokens, padding included, that one forward and backward pass may hold. auto: estimated from
    the device's memory. Either is halved, with an event, when the memory turns out to be too small."""
    offload: bool = False
    """Keep AdamW's moments in the machine's memory and step there: 8 bytes a parameter on a GPU instead of 16."""
    gradient_checkpointing: bool = False
    """Compute each layer's activations again in the backward pass instead of keeping them: less memory, more time."""

    @model_validator(mode="after")
    def _updates_divide_the_step(self) -> Self:
        if self.prompts_per_update is not None and self.prompts_per_step % self.prompts_per_update:
            raise ValueError(
                f"prompts_per_step ({self.prompts_per_step}) must be a multiple of "
                f"prompts_per_update ({self.prompts_per_update})"
            )
        return self

    @property
    def updates_per_step(self) -> int:
        return self.prompts_per_step // (self.prompts_per_update or self.prompts_per_step)


class TrainSpec(SpecPart):
    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    """How many steps the run has."""


class EvalSpec(SpecPart):
    """One benchmark: evaluated before the first step, every `every` steps and after the last."""

    name: Name
    """What its metrics are called: eval/NAME/..."""
    data: DataRef
    """As data.train."""
    columns: Columns = Columns()
    every: Count = 10
    """Steps between two evaluations."""
    samples: Annotated[int, Field(ge=1, le=4096)] = 1
    """Responses to each problem."""
    k: list[Count] = Field(default=[1], min_length=1)
    """pass@k for each of these, at most `samples`."""
    temperature: Annotated[Real, Field(ge=0, le=10)] = 0.4
    """0 is greedy decoding."""
    max_new_tokens: Count | None = None
    """None: as in rollout."""
    max_problems: Count | None = None
    """The first so many problems of the data set; None: all."""

    @model_validator(mode="after")
    def _k_within_samples(self) -> Self:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs at least {max(self.k)} samples, got {self.samples}")
        return self


class CheckpointSpec(SpecPart):
    """A checkpoint every `every` steps and after the last step."""

    every: Count = 20
    """Steps between two checkpoints."""
    keep_last: Count = 2
    """How many of the newest are kept."""
    keep_best: str | None = None
    """A metric key, e.g. `eval/NAME/pass_at_k/1`: the checkpoint where it was highest is kept too."""

    def retained(self, scores: dict[int, float | None]) -> set[int]:
        """Which of the checkpoints to keep. `scores`: step -> value of `keep_best` there, None where unmeasured."""
        kept = set(sorted(scores)[-self.keep_last :])
        measured = {step: score for step, score in scores.items() if score is not None}
        if self.keep_best is not None and measured:
            # Of equals the earliest: it reached the score with the least training.
            kept.add(max(measured, key=lambda step: (measured[step], -step)))
        return kept


class PreflightSpec(SpecPart):
    """Before step 1, rollouts of some prompts are sampled and judged; a job that could not learn from them ends there.

    A run is the same with it and without.
    """

    prompts: Annotated[int, Field(ge=1, le=4096)] = 32
    """How many training prompts, drawn at random; all of them where there are fewer."""
    samples: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Rollouts of each, `rollout.group_size` at least; None: so many."""


def _switch(value: object) -> object:
    """`preflight: true` is one with every default, false is none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class DiagnosticsSpec(SpecPart):
    every: Annotated[int, Field(ge=0)] = 10
    """Steps between measurements of the realised entropy change (an extra forward pass); 0 is never."""
    rollout_groups: Annotated[int, Field(ge=0, le=1024)] = 4
    """How many groups of each step are stored with their text."""
    token_entropies: bool = False
    """Store the entropy of each token with those texts, too; the dashboard shades the text with it. 8 bytes a token."""


class ResourcesSpec(SpecPart):
    gpus: Literal["auto"] | Annotated[int, Field(ge=0, le=64)] = "auto"
    """auto: one GPU on a worker that has any, else the CPU. 0: the CPU. Otherwise waits for a worker with so many free
    GPUs; of several each has a rank of its own, and the weights, gradients and optimizer state are spread over them."""
    nodes: Count = 1
    """Machines, with so many GPUs each. More than one needs backend verl on a Ray cluster that is up (RAY_ADDRESS)."""
    tensor_parallel: Count = 1
    """Over how many GPUs one inference engine of verl splits the model."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Jobs of a higher one are taken first, whoever's they are."""
    gpu_memory: Annotated[int, Field(ge=1, le=4096)] | None = None
    """GB that each GPU has at least."""
    labels: list[Label] = Field(default=[], max_length=8)
    """The worker has all of them."""
    max_runtime: Annotated[Real, Field(gt=0, le=366 * 86_400)] | None = None
    """Seconds of running, over all attempts; then it writes a checkpoint and fails. Waiting and pauses do not count."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How many attempts may be lost to failures of the infrastructure before the job fails."""

    @model_validator(mode="after")
    def _memory_is_a_gpus(self) -> Self:
        if self.gpu_memory is not None and self.gpus == 0:
            raise ValueError("gpu_memory is of a GPU, and gpus is 0")
        return self

    @property
    def gpus_per_node(self) -> int:
        return 1 if self.gpus == "auto" else self.gpus

    @property
    def gpus_in_all(self) -> int:
        return self.nodes * self.gpus_per_node


class JobSpec(SpecPart):
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """What the run is called; names need not differ."""
    backend: Backend = "asym"
    """`verl`: the same job as a verl run on Ray, for models and batches that one GPU does not hold. What verl cannot do
    as the spec says is refused (`trainer.spec.backend`)."""
    model: ModelSpec
    data: DataSpec
    reward: RewardSpec
    algorithm: AlgorithmSpec = AlgorithmSpec()
    rollout: RolloutSpec = RolloutSpec()
    optim: OptimSpec = OptimSpec()
    train: TrainSpec = TrainSpec()
    eval: list[EvalSpec] = Field(default=[])
    """Benchmarks that are evaluated while it trains."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    preflight: Annotated[
        PreflightSpec | None, BeforeValidator(_switch, json_schema_input_type=PreflightSpec | bool | None)
    ] = None
    diagnostics: DiagnosticsSpec = DiagnosticsSpec()
    resources: ResourcesSpec = ResourcesSpec()
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Of everything that is drawn: the same spec with the same seed is the same run."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        names = [benchmark.name for benchmark in self.eval]
        if len(set(names)) != len(names):
            raise ValueError(f"eval names must differ, got {names}")
        if self.algorithm.needs_success_threshold(self.reward.is_graded):
            raise ValueError(
                f"algorithm.success_threshold must be set: reward.kind {self.reward.kind} may give rewards between 0 "
                f"and 1, and the estimator {self.algorithm.estimator} (preset {self.algorithm.preset}) knows right and "
                "wrong only; presets grpo and dr_grpo take any reward"
            )
        for index, bonus in enumerate(self.reward.bonus):
            end = bonus.end or self.rollout.max_new_tokens if bonus.kind == "length" else None
            if bonus.kind == "length" and end is not None and bonus.start >= end:
                raise ValueError(
                    f"reward.bonus.{index}.start ({bonus.start}) must be below its end ({end}"
                    + (")" if bonus.end else ", rollout.max_new_tokens)")
                )
        if self.preflight is not None and (self.preflight.samples or self.rollout.group_size) < self.rollout.group_size:
            raise ValueError(
                f"preflight.samples ({self.preflight.samples}) must be rollout.group_size ({self.rollout.group_size}) "
                "or more: it looks at whole groups"
            )
        resources = self.resources
        if self.backend == "asym" and (resources.nodes > 1 or resources.tensor_parallel > 1):
            raise ValueError("resources.nodes and resources.tensor_parallel above 1 need backend: verl")
        best = self.checkpoint.keep_best
        if best is not None and best.startswith("eval/") and best.split("/")[1] not in names:
            raise ValueError(f"checkpoint.keep_best {best!r} names no benchmark of eval {names}")
        if self.rollout.engine == "vllm" and not self.vllm_samples_it:
            raise ValueError(f"{VllmSpec.TEMPERATURES}; rollout.engine hf samples at any")
        if self.optim.offload and self.ranks > 1:
            raise ValueError("optim.offload is for one GPU; several spread the optimizer's state over themselves")
        generating = self.rollout.vllm.gpus
        if generating and self.backend == "asym":
            if self.rollout.engine != "vllm":
                raise ValueError("rollout.vllm.gpus needs rollout.engine: vllm")
            if resources.gpus == "auto" or resources.gpus <= generating:
                raise ValueError(
                    f"rollout.vllm.gpus ({generating}) are among resources.gpus ({resources.gpus}), which must be a "
                    "number above it: at least one GPU trains"
                )
        return self

    @property
    def ranks(self) -> int:
        """How many processes of ours train it. verl has its own."""
        gpus = self.resources.gpus
        return 1 if gpus == "auto" or self.backend == "verl" else max(1, gpus - self.rollout.vllm.gpus)

    @property
    def vllm_samples_it(self) -> bool:
        """Whether every temperature of the job is one that vLLM samples at."""
        return all(map(VllmSpec.samples_at, [self.rollout.temperature, *(each.temperature for each in self.eval)]))

    @property
    def data_refs(self) -> list[str]:
        """Every data set the job reads, training first, each once."""
        return list(dict.fromkeys([self.data.train, *(benchmark.data for benchmark in self.eval)]))
