"""/v1/chat/completions and /v1/completions: sampling from a checkpoint, or from any model that a job may name.

A request becomes a row that a worker's sampler takes (store.sampling); the answer comes back through the database.
"""

import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import JSONResponse

from api.auth import Member
from api.events.stream import HEARTBEAT, EventStreamResponse
from api.model_catalog import missing_because
from api.openai import errors as openai_errors
from api.openai.completion_answers import ChatForm, Form, TextForm, Told
from api.openai.completion_shapes import (
    CHAT_EXAMPLES,
    TEXT_EXAMPLES,
    ChatCompletion,
    Completion,
    CreateChatCompletion,
    CreateCompletion,
)
from api.openai.errors import responses
from api.problems import DATABASE_AWAY, Problem, missing
from api.state import ApiState, State
from store import sampling
from store.access import Identity
from store.errors import NotFound
from store.sampling import Answer, Asked
from store.tenancy import serving
from trainer.spec.model import parse_model_id
from trainer.spec.sampling import SamplingRequest

logger = logging.getLogger(__name__)

GIVE_UP_TRIES = 3

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=responses(403, 404))

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream: true` server-sent events, of which the last is `[DONE]`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'data: {"choices":[...]}\n\ndata: [DONE]\n\n',
            }
        },
    }
}


@router.post("/chat/completions", response_model=ChatCompletion, responses=_STREAM)
async def openai_create_chat_completion(
    wanted: Annotated[CreateChatCompletion, Body(openapi_examples=CHAT_EXAMPLES)],
    request: Request,
    state: State,
    member: Member,
) -> Response:
    """Sample the next turn of a chat."""
    return await _answered(wanted, ChatForm(), request, state, member)


@router.post("/completions", response_model=Completion, responses=_STREAM)
async def openai_create_completion(
    wanted: Annotated[CreateCompletion, Body(openapi_examples=TEXT_EXAMPLES)],
    request: Request,
    state: State,
    member: Member,
) -> Response:
    """Sample how a text goes on."""
    return await _answered(wanted, TextForm(), request, state, member)


async def _answered(
    wanted: CreateChatCompletion | CreateCompletion, form: Form, request: Request, state: ApiState, member: Identity
) -> Response:
    asked = await to_thread.run_sync(_ask, state, member, wanted.model, wanted.sampling())
    if asked.ring:
        await to_thread.run_sync(state.ring)
    told = Told(form, asked.id, int(time.time()), wanted.model)
    answers = _followed(state, member, asked.id, request)
    if not wanted.streams:
        usage = None
        async with aclosing(answers):
            async for answer in answers:
                if answer is not None:
                    for part in answer.parts:
                        told.add(part.deltas)
                    usage = answer.usage
        # Without its usage nobody is there to be answered.
        return Response(status_code=499) if usage is None else JSONResponse(told.whole(usage))
    first = None
    try:
        # Before the stream begins, so that what fails at once is answered with its status.
        while first is None:
            first = await anext(answers)
    except StopAsyncIteration:
        return Response(status_code=499)
    except BaseException:
        await answers.aclose()
        raise
    return EventStreamResponse(_stream(told, first, answers, with_usage=wanted.tells_usage))


def _ask(state: ApiState, member: Identity, model: str, request: SamplingRequest) -> Asked:
    try:
        parse_model_id(model)
    except ValueError as error:
        raise missing(["body", "model"], str(error)) from error
    if (reason := missing_because(model, state.settings)) is not None:
        raise missing(["body", "model"], reason)
    settings = state.settings
    try:
        with serving(member.team_id), state.database.transaction() as session:
            return sampling.ask(
                session,
                member,
                model,
                request,
                most_open=settings.team_sampler_requests,
                seconds=settings.sampler_request_seconds,
                policy=state.policy,
            )
    except NotFound as error:
        raise missing(["body", "model"], str(error)) from error


async def _followed(
    state: ApiState, member: Identity, sampling_id: str, request: Request
) -> AsyncGenerator[Answer | None, None]:
    """The answer as it grows. Whoever stops reading gives the request up."""

    def read(after: int, limit: int) -> Answer:
        with serving(member.team_id), state.database.transaction() as session:
            return sampling.read(session, member, sampling_id, after, limit)

    def why_it_waits() -> str | None:
        with serving(member.team_id), state.database.transaction() as session:
            return sampling.why_it_waits(session, member, sampling_id, state.policy)

    try:
        parts = state.samplings.follow(
            sampling_id,
            read,
            is_gone=request.is_disconnected,
            why_it_waits=why_it_waits,
            wait_seconds=state.settings.sampler_wait_seconds,
        )
        async with aclosing(parts):
            async for answer in parts:
                yield answer
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(partial(_give_up, state, member, sampling_id))


def _give_up(state: ApiState, member: Identity, sampling_id: str) -> None:
    for _ in range(GIVE_UP_TRIES):
        try:
            with serving(member.team_id), state.database.transaction() as session:
                sampling.give_up(session, member, sampling_id)
        except DATABASE_AWAY as error:
            logger.warning("%s cannot be given up: %s", sampling_id, str(error).partition("\n")[0])
        except NotFound:
            return
        else:
            return
    # Its time will be up.


async def _stream(
    told: Told, first: Answer, answers: AsyncGenerator[Answer | None, None], *, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    answer: Answer | None = first
    try:
        async with aclosing(answers):
            while True:
                if answer is None:
                    yield HEARTBEAT
                else:
                    for part in answer.parts:
                        for chunk in told.chunks(part.deltas):
                            yield _message(chunk)
                    if answer.usage is not None and with_usage:
                        yield _message(told.last_chunk(answer.usage))
                answer = await anext(answers)
    except StopAsyncIteration:
        yield b"data: [DONE]\n\n"
    except Problem as problem:
        # The client raises it; nothing follows.
        yield _message(openai_errors.body_of(problem.status, problem.code, problem.detail, problem.errors))


def _message(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
