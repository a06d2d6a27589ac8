"""A request to sample from a model: what the API accepts, what the sampler (`trainer.serving`) is told.

One JSON object a line goes to the sampler, an `Order`; its answers are events (`trainer.spec.events.Sampled`).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, ValidationError, field_validator, model_validator

from trainer.spec.base import Real, SpecPart
from trainer.spec.reward import option_problems, parse_kind, resolve_options

MAX_PROMPT_CHARS = 200_000
MAX_PROMPTS = 32
MAX_TOKENS = 16_384
MAX_SEQUENCES = 128
"""Of one request: prompts times samples."""
MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 512
"""Of a chat that names none. As many as the model has positions for, where that is less."""
DEFAULT_TEXT_TOKENS = 16
"""Of a text that names none, as at OpenAI."""

JUDGES = ("math", "numeric", "exact", "regex", "choice", "similarity")
"""The verifiers that may judge a sample: those that come with this package and need but the answer."""

Text = Annotated[str, StringConstraints(max_length=MAX_PROMPT_CHARS)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, le=2**31 - 1)]], Field(min_length=1, max_length=MAX_PROMPT_CHARS)]


Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ChatMessage(SpecPart):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text


class Judgement(SpecPart):
    """By which verifier each sample is to be judged, and against which answer."""

    kind: str
    answer: Annotated[str, StringConstraints(max_length=100_000)]
    options: dict[str, JsonValue] = Field(default={})
    """Those of the kind, with its defaults filled in."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        parse_kind(kind, JUDGES)
        return kind

    @model_validator(mode="after")
    def _options_of_the_kind(self) -> Self:
        try:
            resolved = resolve_options(self.kind, self.options)
        except ValidationError as error:
            raise ValueError("; ".join(option_problems(error))) from None
        object.__setattr__(self, "options", resolved)
        return self


class SamplingRequest(SpecPart):
    """Either `messages`, a chat of which the assistant's next turn is sampled, or `prompts`, which are continued."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)] | None = None
    prompts: Annotated[list[Text | Tokens], Field(min_length=1, max_length=MAX_PROMPTS)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_SEQUENCES)] = 1
    """Samples of each prompt."""
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    """Of each sample; None: DEFAULT_MAX_TOKENS, or what the model has room for where that is less."""
    temperature: Annotated[Real, Field(ge=0, le=2)] = 1.0
    """0 takes the likeliest token."""
    top_p: Annotated[Real, Field(gt=0, le=1)] = 1.0
    """Only the likeliest tokens that together have this much of the probability are drawn from."""
    stop: Annotated[list[Stop], Field(max_length=MAX_STOPS)] = Field(default=[])
    """A sample ends before the first of these."""
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    """With the log-prob of each token, and of so many of the likeliest in its place; None: without."""
    judgement: Judgement | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.messages is None) == (self.prompts is None):
            raise ValueError("give either messages or prompts")
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        if self.sequences > MAX_SEQUENCES:
            raise ValueError(f"{self.sequences} samples in one request; at most {MAX_SEQUENCES}")
        if sum(len(prompt) for prompt in self.prompts or ()) > MAX_PROMPT_CHARS:
            raise ValueError(f"the prompts are together over {MAX_PROMPT_CHARS:,} characters")
        if sum(len(message.content) for message in self.messages or ()) > MAX_PROMPT_CHARS:
            raise ValueError(f"the messages are together over {MAX_PROMPT_CHARS:,} characters")
        return self

    @property
    def sequences(self) -> int:
        """How many samples it asks for."""
        return self.n * len(self.prompts or [""])


class Order(SpecPart):
    """One line to the sampler: answer this request, or go on no longer with it."""

    id: str
    request: SamplingRequest | None = None
    """None: nobody waits for the answer any more."""
