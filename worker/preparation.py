"""From a claimed job to the command that runs it: run directory, spec file, the files of the model and the data."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from store import checkpoints, datasets, schema
from store.artifacts import Artifacts
from store.database import Database
from store.errors import NotFound
from store.leases import Claim
from store.settings import Settings
from trainer.spec import JobSpec
from trainer.spec.events import Failed
from trainer.spec.model import parse_model_id
from worker.process import clean_environment
from worker.spool import Spool

# -P: the run directory, which is the trainer's to write to, is not where Python looks for modules.
TRAINER = (sys.executable, "-P", "-m", "trainer")
SAMPLER = (sys.executable, "-P", "-m", "trainer.serving")


class BadJobError(Exception):
    """No worker can run this job: it names something that does not exist."""

    def __init__(self, code: str, message: str, evidence: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.failure = Failed(time=time.time(), kind="user", code=code, message=message, evidence=list(evidence))


class TooNewError(Exception):
    """The job was made by a newer version of the platform and says what this worker does not understand."""


class MissingFileError(Exception):
    """A file that should be there is not; another worker may see it."""


@dataclass(frozen=True)
class Launch:
    """All it takes to start a trainer."""

    command: list[str]
    run_dir: Path
    environment: dict[str, str]


@dataclass(frozen=True)
class Preparation:
    """What is the same for every job of a worker."""

    settings: Settings
    artifacts: Artifacts
    database: Database
    environment: Mapping[str, str]
    """The worker's own environment."""
    trainer: Sequence[str] = TRAINER
    sampler: Sequence[str] = SAMPLER

    def spool(self) -> Spool:
        """One attempt's share of the disk for what the database cannot take yet."""
        return Spool(self.settings.spool_folder, self.settings.spool_bytes)

    def prepare(self, claim: Claim, gpus: Sequence[str]) -> Launch:
        """Make the run directory and find every file. BadJobError, TooNewError, MissingFileError, OSError or a database
        error."""
        if claim.kind == "serve":
            return self._prepare_sampler(claim, gpus)
        try:
            spec = JobSpec.model_validate(claim.spec)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            with self.database.transaction() as session:
                if (schema.current(session.connection()) or "") > schema.head():
                    raise TooNewError("; ".join(lines)) from error
            raise BadJobError("bad_spec", "this version of the platform cannot read the stored spec", lines) from error
        run_dir = self._run_dir(claim)
        spec_file = run_dir / "spec.yaml"
        spec_file.write_text(json.dumps(claim.spec, indent=1))
        command = [*self.trainer, str(spec_file), "--run-dir", str(run_dir), "--supervised"]
        command += self._model_arguments(claim, spec.model.id)
        if self.settings.sandbox is not None:
            command += ["--sandbox", self.settings.sandbox]
        for reference, path in self._data_files(claim, spec).items():
            command += ["--data", f"{reference}={path}"]
        if claim.resume is not None:
            command += ["--resume", str(_existing(self.artifacts.resolve(claim.resume.path)))]
        environment = clean_environment(self.environment, ",".join(gpus)) | self._of_http_verifiers()
        return Launch(command, run_dir, environment)

    def _prepare_sampler(self, claim: Claim, gpus: Sequence[str]) -> Launch:
        model_id = str(claim.spec["model"]["id"])
        command = [*self.sampler, model_id, "--engine", self.settings.sampler_engine]
        command += self._model_arguments(claim, model_id)
        return Launch(command, self._run_dir(claim), clean_environment(self.environment, ",".join(gpus)))

    def _run_dir(self, claim: Claim) -> Path:
        run_dir = self.artifacts.attempt_dir(claim.job_id, claim.attempt)
        run_dir.mkdir(parents=True, exist_ok=True)
        return run_dir

    def _model_arguments(self, claim: Claim, model_id: str) -> list[str]:
        """Where the model is, or is to be looked for."""
        arguments = ["--cache-dir", str(self.settings.models_cache)]
        if self.settings.models_dir is not None:
            arguments += ["--models-dir", str(self.settings.models_dir)]
        model_dir = self._model_dir(claim, model_id)
        return arguments if model_dir is None else [*arguments, "--model-dir", str(model_dir)]

    def _of_http_verifiers(self) -> dict[str, str]:
        """Not among the arguments, which everyone on the machine may read of its processes: an address may hold a
        password."""
        urls = [f"{name}={url.get_secret_value()}" for name, url in self.settings.http_verifiers.items()]
        if not urls:
            return {}
        given = {"ASYM_HTTP_VERIFIERS": ",".join(urls)}
        if self.settings.outgoing_networks:
            given["ASYM_OUTGOING_NETWORKS"] = ",".join(self.settings.outgoing_networks)
        if self.settings.outgoing_secret is not None:
            given["ASYM_OUTGOING_SECRET"] = self.settings.outgoing_secret.get_secret_value()
        return given

    def _data_files(self, claim: Claim, spec: JobSpec) -> dict[str, Path]:
        try:
            with self.database.transaction() as session:
                files = datasets.files(session, claim.team_id, spec.data_refs)
        except NotFound as error:
            raise BadJobError("data_not_found", str(error)) from error
        return {
            reference: _existing(self.artifacts.dataset_path(file.sha256, file.format))
            for reference, file in files.items()
        }

    def _model_dir(self, claim: Claim, model_id: str) -> Path | None:
        """The folder of a model that lies on this platform; None for those that the trainer gets by itself."""
        source, name = parse_model_id(model_id)
        if source == "path":
            return _existing(self._operator_model(name))
        if source == "job":
            job_id, _, step = name.partition("@")
            try:
                with self.database.transaction() as session:
                    checkpoint = checkpoints.of_model(session, claim.team_id, job_id, int(step))
            except NotFound as error:
                raise BadJobError("model_not_found", f"model {model_id}: {error}") from error
            return _existing(self.artifacts.resolve(checkpoint.path) / "model")
        return None

    def _operator_model(self, name: str) -> Path:
        if self.settings.models_dir is None:
            raise MissingFileError(f"model path/{name}: ASYM_MODELS_DIR is not set on this worker")
        root = self.settings.models_dir.resolve()
        folder = (root / name).resolve()
        if not folder.is_relative_to(root):  # a link that leads out
            raise BadJobError("model_not_found", f"model path/{name} lies outside the models folder")
        return folder


def _existing(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(f"{path} does not exist")
    return path
