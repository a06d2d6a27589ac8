"""What lies ready before verl starts: the model's folder, and the prompts that the spec lets through, as Parquet."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from trainer.backends.verl.data import write_parquet
from trainer.backends.verl.names import TRAIN_SOURCE
from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.models import ModelError
from trainer.models.adapter_folder import holds_adapter

# The resolver of load_policy: what a model id names must be the same folder for both backends.
from trainer.models.sources import Places
from trainer.rewards import Permits, VerifierPool
from trainer.run import Folders, load_prompts, open_verifier, read_data
from trainer.spec.job import Columns, JobSpec
from trainer.verifiability import check_verifiers


@dataclass(frozen=True)
class Prepared:
    model_dir: Path
    parameters: int
    train: Path
    prompts: int
    """In `train`."""
    dropped: int
    benchmarks: dict[str, tuple[Path, int]]
    """Name -> its file and how many problems are in it."""


def prepare(spec: JobSpec, folders: Folders, work: Path, events: EventStream, permits: Permits) -> Prepared:
    """Find the model, write `work`/*.parquet. RunError, ModelError or DataError for what is wrong with spec or data."""
    model_dir = _model_folder(spec, folders)
    tokenizer = _tokenizer(spec, model_dir)
    with open_verifier(spec, permits) as verifier:
        file = work / "train.parquet"
        files = _Files(spec, folders, tokenizer, verifier, events)
        prompts, dropped = files.write(file, TRAIN_SOURCE, spec.data.train, spec.data.columns, None)
        benchmarks = {}
        for one in spec.eval:
            path = work / f"eval-{one.name}.parquet"
            benchmarks[one.name] = (path, files.write(path, one.name, one.data, one.columns, one.max_problems)[0])
    if prompts < spec.optim.prompts_per_step:
        raise RunError(
            "too_few_prompts",
            f"{spec.data.train} has {prompts} usable prompts, and verl draws none twice in a step: a step needs "
            f"optim.prompts_per_step = {spec.optim.prompts_per_step}",
        )
    return Prepared(model_dir, _parameters(model_dir), file, prompts, dropped, benchmarks)


@dataclass(frozen=True)
class _Files:
    spec: JobSpec
    folders: Folders
    tokenizer: PreTrainedTokenizerBase
    verifier: VerifierPool
    events: EventStream

    def write(self, path: Path, source: str, reference: str, columns: Columns, limit: int | None) -> tuple[int, int]:
        """Write the usable prompts of a data set, the first `limit` of them; how many there are and were dropped."""
        found = load_prompts(self.spec, reference, columns, self.tokenizer, self.folders, self.events)
        kept = found.prompts[:limit]
        check_verifiers(self.spec, reference, kept, self.verifier, self.events)
        rows = {prompt.row for prompt in kept}
        problems = (problem for problem in read_data(self.folders, reference, columns) if problem.row in rows)
        return write_parquet(path, problems, source, self.spec.data), found.dropped_count


def _model_folder(spec: JobSpec, folders: Folders) -> Path:
    places = Places(folders.cache, folders.models, torch.device("cpu"))
    folder = places.folder(spec.model.id, folders.model)
    if holds_adapter(folder):
        raise ModelError(f"{spec.model.id} is a LoRA adapter, and verl needs a whole model: merge it into its base")
    return folder


def _tokenizer(spec: JobSpec, model_dir: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(  # a folder  # nosec B615
            model_dir, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{spec.model.id}: its tokenizer cannot be loaded ({error})") from error
    if not tokenizer.chat_template:
        # utils/dataset/rl_dataset.py and experimental/agent_loop apply one, always.
        raise RunError(
            "backend_verl_cannot",
            f"backend verl cannot do: model.id: {spec.model.id} has no chat template, and verl knows no other prompts",
        )
    return tokenizer


def _parameters(model_dir: Path) -> int:
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True)  # a folder  # nosec B615
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return sum(parameter.numel() for parameter in model.parameters())
