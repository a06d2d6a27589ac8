"""Requests to sample as the official client sends them, and what comes back."""

import secrets
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from api.openai.shapes import storable
from api.openapi import example
from api.problems import all_invalid
from api.spec_errors import readable_errors
from trainer.spec.sampling import DEFAULT_TEXT_TOKENS, MAX_PROMPT_CHARS, SamplingRequest

Model = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(storable)]
Text = Annotated[str, StringConstraints(max_length=MAX_PROMPT_CHARS), AfterValidator(storable)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Zero = Annotated[Finite, Field(ge=0, le=0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Token = Annotated[int, Field(ge=0, le=2**31 - 1)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=MAX_PROMPT_CHARS)]
Nothing = Annotated[list[JsonValue], Field(max_length=0)]

CHAT_EXAMPLES: dict[str, Any] = {
    "tiny": {
        "summary": "Four samples of a checkpoint, judged",
        "value": {
            "model": "job/job_01jz8xa1b2c3d4e5f6g7h8j9km@60",
            "messages": [{"role": "user", "content": "12+34="}],
            "n": 4,
            "max_tokens": 8,
            "seed": 1,
            "asym": {"verify": {"kind": "exact", "answer": "46"}},
        },
    }
}
TEXT_EXAMPLES: dict[str, Any] = {
    "tiny": {
        "summary": "A text to go on with",
        "value": {"model": "builtin/tiny-arith", "prompt": "12+34=", "max_tokens": 8, "temperature": 0},
    }
}


class Verify(BaseModel):
    """By which verifier (README.md) each sample is to be judged, and against which answer."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    answer: Annotated[str, AfterValidator(storable)]
    options: dict[str, JsonValue] = {}


class Beyond(BaseModel):
    """What OpenAI's shape has no field for."""

    model_config = ConfigDict(extra="forbid")

    verify: Verify | None = None


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False
    """Nothing is padded here either way."""


class _Request(BaseModel):
    """What both have. A field that stands here with one value only is taken, and any other value of it refused."""

    model_config = ConfigDict(extra="forbid")

    model: Model
    """A model id of GET /v1/models, or `job/JOB_ID@STEP`."""
    n: Count | None = None
    max_tokens: Count | None = None
    temperature: Finite | None = None
    top_p: Finite | None = None
    stop: Text | list[Text] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    """The same seed, model and request give the same text."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    user: str | None = None
    """Not kept."""
    asym: Beyond | None = None

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def tells_usage(self) -> bool:
        """In a stream."""
        return self.stream_options is not None and self.stream_options.include_usage

    def _sampling(self, **own: object) -> SamplingRequest:
        verify = self.asym.verify if self.asym else None
        given = {
            "n": self.n,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "seed": secrets.randbits(63) if self.seed is None else self.seed,
            "judgement": None if verify is None else verify.model_dump(),
            **own,
        }
        told = {name: value for name, value in given.items() if value is not None}
        try:
            return SamplingRequest.model_validate(told)
        except ValidationError as error:
            raise all_invalid([_renamed(each) for each in readable_errors(error.errors(), told)]) from error


_NAMES = {"prompts": ("prompt",), "judgement": ("asym", "verify")}
"""Where in these requests stands what stands there in trainer.spec.sampling."""


def _renamed(error: Any) -> dict[str, Any]:  # noqa: ANN401 - what readable_errors gives
    loc = [part for part in error["loc"] if part != "body"]
    first = _NAMES.get(str(loc[0]), (loc[0],)) if loc else ()
    return {**error, "loc": ["body", *first, *loc[1:]]}


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    """Models here read text."""
    text: Text


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=1000)]
    name: str | None = None
    """Not told to the model."""
    refusal: None = None
    audio: None = None
    annotations: Nothing | None = None
    function_call: None = None
    tool_calls: Nothing | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class TextFormat(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]


class CreateChatCompletion(_Request):
    """The next turn of a chat."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    """A model without a chat template goes on with the last user text."""
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: TextFormat | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None

    def sampling(self) -> SamplingRequest:
        """Problem 422 that names each field that is wrong."""
        if self.top_logprobs is not None and not self.logprobs:
            raise all_invalid([{"loc": ["body", "top_logprobs"], "msg": "needs logprobs: true"}])
        return self._sampling(
            messages=[{"role": each.role, "content": each.text} for each in self.messages],
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            max_tokens=self.max_completion_tokens or self.max_tokens,
        )


class CreateCompletion(_Request):
    """A text to go on with."""

    prompt: Text | Tokens | Annotated[list[Text], Field(min_length=1)] | Annotated[list[Tokens], Field(min_length=1)]
    """Text, or token ids; or a list of either."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """With so many of the likeliest tokens in each place."""
    echo: Literal[False] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None

    def sampling(self) -> SamplingRequest:
        """Problem 422 that names each field that is wrong."""
        given: Any = self.prompt
        several = isinstance(given, list) and not isinstance(given[0], int)
        return self._sampling(
            prompts=given if several else [given],
            logprobs=self.logprobs,
            max_tokens=DEFAULT_TEXT_TOKENS if self.max_tokens is None else self.max_tokens,
        )


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Verdict(BaseModel):
    """Beyond OpenAI's shape, with `asym.verify`: the verifier's word on this sample."""

    reward: float | None
    error: str | None


class ChatMessageOut(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatMessageOut
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    asym: Verdict | None = None


class ChatCompletion(BaseModel):
    """An answer; with `stream`, the same bit by bit as OpenAI's `chat.completion.chunk`."""

    model_config = example(
        {
            "id": "chatcmpl-smp_01jz8xb...",
            "object": "chat.completion",
            "created": 1768469460,
            "model": "builtin/tiny-arith",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "46", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9},
        }
    )

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    asym: Verdict | None = None


class Completion(BaseModel):
    """An answer; with `stream`, the same bit by bit."""

    model_config = example(
        {
            "id": "cmpl-smp_01jz8xb...",
            "object": "text_completion",
            "created": 1768469460,
            "model": "builtin/tiny-arith",
            "choices": [{"index": 0, "text": "46", "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9},
        }
    )

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
