"""/v1/models: the models that a job may start from, as OpenAI lists them."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api import model_catalog
from api.auth import Caller
from api.openai.errors import responses
from api.openai.shapes import seconds
from api.openapi import example
from api.problems import missing
from api.state import State
from store import job_history
from trainer.spec.model import parse_model_id

router = APIRouter(prefix="/v1/models", tags=["OpenAI"], responses=responses())


class ModelObject(BaseModel):
    """A model."""

    model_config = example({"id": "builtin/tiny-arith", "object": "model", "created": 0, "owned_by": "builtin"})

    id: str
    object: Literal["model"] = "model"
    created: int
    """Of a checkpoint; else 0, since nobody knows."""
    owned_by: str
    """Where it comes from: builtin, path, hf or job."""


class ModelObjectList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelObject]


@router.get("")
def openai_list_models(state: State, caller: Caller) -> ModelObjectList:
    """The models of this platform; checkpoints of jobs are listed with their jobs."""
    entries = model_catalog.available(state.settings)
    return ModelObjectList(data=[ModelObject(id=entry.id, created=0, owned_by=entry.source) for entry in entries])


@router.get("/{model_id:path}", responses=responses(404))
def openai_get_model(model_id: str, state: State, caller: Caller) -> ModelObject:
    """One model, also a checkpoint of one's own jobs: `job/JOB_ID@STEP`."""
    if any(entry.id == model_id for entry in model_catalog.available(state.settings)):
        return ModelObject(id=model_id, created=0, owned_by=parse_model_id(model_id).source)
    try:
        source, name = parse_model_id(model_id)
    except ValueError as error:
        raise missing(["path", "model_id"], f"no model {model_id!r}") from error
    job_id, _, step = name.partition("@")
    if source != "job":
        raise missing(["path", "model_id"], f"no model {model_id!r}")
    with state.database.transaction() as session:
        checkpoint = job_history.usable_checkpoint(session, caller, job_id, int(step))
    return ModelObject(id=model_id, created=seconds(checkpoint.created_at), owned_by=source)
