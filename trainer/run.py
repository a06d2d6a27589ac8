"""Makes a `Training` out of a spec: device, policy, data, verifier, engine; and puts a checkpoint's state back."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from trainer import checkpoint
from trainer.engines import open_engine
from trainer.errors import CheckpointError, RunError
from trainer.evaluation import Benchmark
from trainer.event_stream import EventStream
from trainer.judging import DividedVerifier
from trainer.loop import Training, prune
from trainer.memory import hold_little
from trainer.models import ModelError, Policy, load_lora_policy, load_policy
from trainer.prompts import UNANSWERED, PromptSet, build_prompts
from trainer.ranks import ALONE, World
from trainer.response_text import Decoder
from trainer.rewards import Permits, UnusableVerifierError, VerifierPool
from trainer.rewards.permits import NOTHING
from trainer.rollouts import Sampler
from trainer.run_warnings import WarningState
from trainer.sampling_order import SamplingOrder
from trainer.sharding import shard
from trainer.spec import failpoints
from trainer.spec.dataset import Problem, detect_format, read_problems, tiny_arith_offenders
from trainer.spec.events import Started
from trainer.spec.job import Columns, JobSpec
from trainer.spec.model import LoraSpec
from trainer.spec.written import spec_of_checkpoint
from trainer.token_budget import TokenBudget, estimated_tokens
from trainer.update import make_optimizer, restore_optimizer
from trainer.verifiability import check_verifiers

logger = logging.getLogger(__name__)

VERIFIER_PROCESSES = 2


@dataclass(frozen=True)
class Folders:
    """Where a run finds and leaves things."""

    run: Path
    cache: Path
    """Models made or converted on this machine."""
    models: Path | None
    """The operator's models (`path/NAME`)."""
    model: Path | None
    """The folder of the job's own model where the caller has resolved it."""
    data: Mapping[str, Path]
    """Data reference of the spec -> file."""

    @property
    def private(self) -> tuple[Path, ...]:
        """What a job's own code must not see."""
        return (self.run, self.cache, Path.home(), Path.cwd(), *(file.parent for file in self.data.values()))


@contextmanager
def open_training(
    spec: JobSpec,
    folders: Folders,
    events: EventStream,
    *,
    resume: Path | None,
    prune_checkpoints: bool,
    permits: Permits = NOTHING,
    world: World = ALONE,
) -> Iterator[Training]:
    """Everything loaded and ready to train; verifier processes end with the context.

    RunError, ModelError, DataError for what is wrong with the spec or the data; CheckpointError for a resume folder
    that is not whole.
    """
    device, compute_dtype = placement(spec)
    hold_little(device)
    torch.manual_seed(spec.seed)
    failpoints.hit("trainer.load")
    loaded = None if resume is None else checkpoint.load(resume)
    if loaded is not None:
        refuse_another_adapter(spec, loaded)
    policy, reference = load_policies(spec, folders, None if loaded is None else loaded.model_dir, device)
    if world.size > 1:
        shard(policy, world)
        if reference is not None and reference.model is not policy.model:
            shard(reference, world)
    optimizer = make_optimizer(policy, spec.optim)
    prompts = load_prompts(spec, spec.data.train, spec.data.columns, policy.tokenizer, folders, events)
    order = SamplingOrder(len(prompts), spec.optim.prompts_per_step, spec.seed)
    decode = Decoder(policy.tokenizer)
    with (
        open_verifier(spec, permits) as verifier,
        open_engine(spec, policy, compute_dtype, events, world) as engine,
    ):
        benchmarks = [
            Benchmark(eval_spec, load_benchmark(spec, index, policy, folders, events))
            for index, eval_spec in enumerate(spec.eval)
        ]
        check_verifiers(spec, spec.data.train, prompts.prompts, verifier, events)
        for benchmark in benchmarks:
            check_verifiers(spec, benchmark.spec.data, benchmark.prompts.prompts, verifier, events)
        judge = DividedVerifier(verifier, world) if world.size > 1 else verifier
        training = Training(
            spec=spec,
            run_dir=folders.run,
            policy=policy,
            reference=reference,
            optimizer=optimizer,
            compute_dtype=compute_dtype,
            budget=make_budget(spec, policy, compute_dtype, events, world),
            order=order,
            sampler=Sampler(spec, prompts, order, engine, judge, decode),
            engine=engine,
            verifier=judge,
            decode=decode,
            benchmarks=benchmarks,
            events=events,
            prune_checkpoints=prune_checkpoints and world.leads,
            world=world,
        )
        if loaded is not None:
            restore(training, loaded)
        logger.info(
            "training %s (%d parameters) on %d x %s from step %d to %d, %d prompts",
            spec.model.id,
            policy.parameters,
            world.size,
            device,
            training.step,
            spec.train.steps,
            len(prompts),
        )
        events.emit(
            Started,
            resumed_from=training.step,
            steps=spec.train.steps,
            device=str(device),
            parameters=policy.parameters,
            prompts=len(prompts),
            prompts_dropped=prompts.dropped_count,
        )
        yield training


def make_budget(
    spec: JobSpec, policy: Policy, compute_dtype: torch.dtype, events: EventStream, world: World
) -> TokenBudget:
    """The spec's token budget, or one that the memory of every rank's device should hold; a halving is an event."""
    given = spec.optim.max_tokens_per_micro_batch

    def halved(tokens: int) -> None:
        events.log(
            "warning",
            "micro_batch_halved",
            f"the device's memory was full: from now on at most {tokens} tokens go through the model at once",
            max_tokens_per_micro_batch=tokens,
        )

    fitting = world.gather(torch.tensor([estimated_tokens(policy, compute_dtype) if given == "auto" else given]))
    return TokenBudget(int(min(fitting)), halved, world)


def placement(spec: JobSpec) -> tuple[torch.device, torch.dtype]:
    """Where the policy lives, and what its forward and backward pass compute in."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compute_dtypes = {
        "auto": torch.bfloat16 if device.type == "cuda" else torch.float32,
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
    }
    return device, compute_dtypes[spec.model.dtype]


def load_policies(
    spec: JobSpec, folders: Folders, resumed: Path | None, device: torch.device
) -> tuple[Policy, Policy | None]:
    """The policy to train, with the weights of the checkpoint's model folder `resumed` if there is one, and the frozen
    reference if the KL term needs it."""

    def load(model_dir: Path | None) -> Policy:
        return load_policy(
            spec.model.id, model_dir=model_dir, cache_dir=folders.cache, models_dir=folders.models, device=device
        )

    needs_reference = spec.algorithm.kl_coef > 0
    if spec.model.lora is None:
        try:
            policy = load(resumed or folders.model)
        except ModelError as error:
            if resumed is None:
                raise
            raise CheckpointError(f"{resumed} holds no model that loads: {error}") from error
        return policy, load(folders.model) if needs_reference else None
    policy = load_lora_policy(
        spec.model.id,
        spec.model.lora,
        spec.seed,
        adapter_dir=resumed,
        model_dir=folders.model,
        cache_dir=folders.cache,
        models_dir=folders.models,
        device=device,
    )
    return policy, policy.without_adapter() if needs_reference else None


def refuse_another_adapter(spec: JobSpec, loaded: checkpoint.Loaded) -> None:
    """RunError when the checkpoint's weights and optimizer state are not those of the parameters that are to be
    trained: a whole model's instead of an adapter's, the reverse, or those of another adapter."""
    before, now = spec_of_checkpoint(loaded.state["spec"])[0].model.lora, spec.model.lora
    if before == now:
        return

    def said(lora: LoraSpec | None) -> str:
        return "full fine-tuning" if lora is None else f"LoRA {lora.model_dump_json()}"

    raise RunError(
        "resumed_with_another_adapter",
        f"the checkpoint of step {loaded.step} is of {said(before)}, but model.lora asks for {said(now)}: resume with "
        "the settings it had, or start a new job from it",
    )


def open_verifier(spec: JobSpec, permits: Permits) -> VerifierPool:
    """RunError when the job's verifier is nothing that may run here; VerifierUnavailableError when it cannot now."""
    try:
        return VerifierPool(
            spec.reward.kind,
            workers=VERIFIER_PROCESSES,
            timeout_seconds=spec.reward.timeout_seconds,
            options=spec.reward.options,
            permits=permits,
        )
    except UnusableVerifierError as error:
        raise RunError("verifier_unusable", str(error)) from error


def restore(training: Training, loaded: checkpoint.Loaded) -> None:
    """Put back everything that `loop.write_checkpoint` stored, so that the run goes on as if it had never stopped."""
    before, of_a_newer_version = spec_of_checkpoint(loaded.state["spec"])
    changed = of_a_newer_version + sorted(
        section
        for section in JobSpec.model_fields
        if section not in ("name", "train", "preflight", "checkpoint", "resources")
        and getattr(before, section) != getattr(training.spec, section)
    )
    if changed:
        training.events.log(
            "warning",
            "resumed_with_changes",
            f"the spec's {', '.join(changed)} differ from the run that wrote the checkpoint of step {loaded.step}: "
            "the run goes on with the new ones and is no longer the same run",
            step=loaded.step,
        )
    if loaded.step > training.spec.train.steps:
        raise RunError(
            "checkpoint_past_the_end",
            f"the checkpoint is of step {loaded.step}, but train.steps is {training.spec.train.steps}",
        )
    restore_optimizer(training.policy, training.optimizer, loaded.optimizer)
    training.step = loaded.step
    training.tokens = loaded.state["tokens"]
    # A micro-batch of another size rounds differently; one that was too large once would be again.
    if training.spec.optim.max_tokens_per_micro_batch == before.optim.max_tokens_per_micro_batch:
        training.budget.tokens = loaded.state["token_budget"]
    training.order.load_state_dict(loaded.state["order"])
    training.warnings = WarningState.from_dict(loaded.state["warnings"])
    # The state was written before the pruning that followed it.
    checkpoints = training.run_dir / "checkpoints"
    training.scores = {step: score for step, score in loaded.state["scores"] if (checkpoints / str(step)).is_dir()}
    # The attempt before may have been killed between writing its last checkpoint and pruning.
    prune(training)


def load_benchmark(spec: JobSpec, index: int, policy: Policy, folders: Folders, events: EventStream) -> PromptSet:
    benchmark = spec.eval[index]
    prompts = load_prompts(spec, benchmark.data, benchmark.columns, policy.tokenizer, folders, events)
    return PromptSet(prompts.prompts[: benchmark.max_problems], prompts.dropped)


def read_data(
    folders: Folders, reference: str, columns: Columns, unanswered: list[int] | None = None
) -> Iterator[Problem]:
    """The problems of one data set (`read_problems`); RunError when there is no file for it."""
    path = folders.data.get(reference)
    if path is None or not path.is_file():
        raise RunError("data_not_found", f"there is no file for the data {reference!r}" + (f": {path}" if path else ""))
    with path.open("rb") as file:
        data_format = detect_format(path.name, file.read(65536))
    return read_problems(path, data_format, columns, unanswered=unanswered)


def load_prompts(
    spec: JobSpec,
    reference: str,
    columns: Columns,
    tokenizer: PreTrainedTokenizerBase,
    folders: Folders,
    events: EventStream,
) -> PromptSet:
    """The prompts of one data set. What is dropped is said with its rows; RunError when nothing is left."""
    if spec.model.id == "builtin/tiny-arith":
        problems = read_data(folders, reference, columns)
        offenders = tiny_arith_offenders(problems, spec.data.prompt_template, limit=20)
        if offenders:
            raise RunError(
                "unknown_characters",
                f"prompts of {reference} have characters that {spec.model.id} does not know; rows "
                f"{', '.join(map(str, offenders))}{' ...' if len(offenders) == 20 else ''}",
            )
    unanswered: list[int] = []
    prompts = build_prompts(
        read_data(folders, reference, columns, unanswered),
        tokenizer,
        max_prompt_tokens=spec.data.max_prompt_tokens,
        system_prompt=spec.data.system_prompt,
        prompt_template=spec.data.prompt_template,
        chat_template_kwargs=spec.data.chat_template_kwargs,
    )
    if unanswered:
        prompts.dropped[UNANSWERED] = unanswered
    for reason, rows in prompts.dropped.items():
        if rows:
            events.log(
                "warning",
                "prompts_dropped",
                f"{len(rows)} prompts of {reference} dropped: {reason.replace('_', ' ')}"
                + (f" (limit {spec.data.max_prompt_tokens} tokens)" if reason == "too_long" else "")
                + f"; rows {', '.join(map(str, rows[:10]))}{' ...' if len(rows) > 10 else ''}",
                reason=reason,
                count=len(rows),
            )
    if not len(prompts):
        raise RunError(
            "no_prompts", f"no prompt of {reference} is usable: {prompts.dropped_count} dropped, see the log"
        )
    return prompts
