"""The requests that are being answered: what of each is on its way, and what is told of it when.

Answers go out as events, not for every token but some times a second, so that whoever writes them down keeps up.
"""

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from trainer.event_stream import EventStream
from trainer.models import Policy
from trainer.serving.drawing import Drawing, Drawn, Sample
from trainer.serving.judging import Judge
from trainer.serving.prompts import RequestError, samples_of
from trainer.serving.texts import SampleText
from trainer.spec.events import Delta, Judged, Likely, Sampled, SampledToken, SamplingError, SamplingUsage
from trainer.spec.sampling import Order, SamplingRequest

TELL_SECONDS = 0.05
"""For how long at most what was drawn is kept back, to be told together."""


@dataclass
class _News:
    """What is new of one sample since it was last told of."""

    text: str = ""
    tokens: list[SampledToken] = field(default_factory=list)
    finish: str | None = None
    judged: Judged | None = None


class _Answering:
    """One request on its way."""

    def __init__(self, request: SamplingRequest, samples: Sequence[Sample], policy: Policy) -> None:
        self.request = request
        self.texts = [SampleText(policy.tokenizer, request.stop) for _ in samples]
        prompts = {sample.place[0]: sample.prompt for sample in samples}
        self.prompt_tokens = sum(map(len, prompts.values()))
        self.completion_tokens = 0
        self.going = {sample.index for sample in samples}
        """Samples that have not ended."""
        self.unjudged = set(self.going) if request.judgement is not None else set()
        self.news: dict[int, _News] = {}
        self.parts = 0

    def of(self, index: int) -> _News:
        return self.news.setdefault(index, _News())

    @property
    def over(self) -> bool:
        return not self.going and not self.unjudged


class Sampler:
    """Used from one thread; verdicts come in from another."""

    def __init__(self, policy: Policy, batch: Drawing, events: EventStream, judge: Judge) -> None:
        self._policy = policy
        self._batch = batch
        self._events = events
        self._judge = judge
        self._requests: dict[str, _Answering] = {}
        self._verdicts: queue.SimpleQueue[tuple[str, int, Judged]] = queue.SimpleQueue()
        self._told_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """No request is on its way."""
        return not self._requests

    @property
    def draws(self) -> bool:
        """There is a token to be drawn; else whatever is on its way waits for a verdict."""
        return not self._batch.idle

    def take(self, order: Order) -> None:
        """Begin with a request, or let go of it."""
        if order.request is None:
            if self._requests.pop(order.id, None) is not None:
                self._batch.drop(order.id)
            return
        try:
            samples = samples_of(self._policy, self._batch.positions, order.id, order.request)
        except RequestError as error:
            self._refuse(
                order.id, 0, SamplingError(kind="user", code=error.code, message=str(error), field=error.field)
            )
            return
        self._requests[order.id] = _Answering(order.request, samples, self._policy)
        self._batch.add(samples)

    def step(self) -> None:
        """Draw a token of every sample, and tell what is due."""
        try:
            drawn = self._batch.step()
        except torch.OutOfMemoryError:
            self._fail_all("out_of_memory", "the device's memory is full: ask for fewer samples, or shorter ones")
            return
        except FloatingPointError as error:
            self._fail_all("diverged", str(error))
            return
        for each in drawn:
            self._take_in(each)
        self.tell()

    def tell(self, *, now: bool = False) -> None:
        """Tell what is new: at once of what is over, of the rest if it is time or `now`."""
        while not self._verdicts.empty():
            request_id, index, judged = self._verdicts.get()
            if (answering := self._requests.get(request_id)) is not None:
                answering.unjudged.discard(index)
                answering.of(index).judged = judged
        is_time = now or time.monotonic() - self._told_at >= TELL_SECONDS
        for request_id, answering in list(self._requests.items()):
            if answering.over or (is_time and answering.news):
                self._tell_of(request_id, answering)
        if is_time:
            self._told_at = time.monotonic()

    def _take_in(self, drawn: Drawn) -> None:
        sample = drawn.sample
        answering = self._requests[sample.request]
        text, news = answering.texts[sample.index], answering.of(sample.index)
        answering.completion_tokens += 1
        if not drawn.ended:
            given, own = text.push(drawn.token_id)
            news.text += given
            if drawn.logprob is not None:
                text.hold(SampledToken(text=own, logprob=drawn.logprob, likely=self._likely(drawn)))
        ends = drawn.last or text.stopped
        if ends:
            news.text += text.finish()
            news.finish = "stop" if drawn.ended or text.stopped else "length"
            answering.going.discard(sample.index)
            if not drawn.last:
                self._batch.drop(sample.request, sample.index)
            if answering.request.judgement is not None:
                self._ask_for_verdict(sample, text.whole, answering)
        news.tokens += text.tokens(all_of_them=ends)

    def _ask_for_verdict(self, sample: Sample, text: str, answering: _Answering) -> None:
        assert answering.request.judgement is not None  # noqa: S101 - the caller has looked
        self._judge.judge(
            text,
            answering.request.judgement,
            lambda judged: self._verdicts.put((sample.request, sample.index, judged)),
        )

    def _likely(self, drawn: Drawn) -> list[Likely]:
        tokenizer = self._policy.tokenizer
        return [Likely(text=str(tokenizer.decode([token])), logprob=value) for token, value in drawn.likely]

    def _tell_of(self, request_id: str, answering: _Answering) -> None:
        with_tokens = answering.request.logprobs is not None
        deltas = [
            Delta.model_validate(
                {
                    "index": index,
                    "text": news.text,
                    "tokens": news.tokens if with_tokens else None,
                    "finish": news.finish,
                    "judged": news.judged,
                }
            )
            for index, news in sorted(answering.news.items())
            if news != _News()
        ]
        answering.news = {}
        if not deltas and not answering.over:
            return
        usage = None
        if answering.over:
            del self._requests[request_id]
            usage = SamplingUsage(prompt_tokens=answering.prompt_tokens, completion_tokens=answering.completion_tokens)
        self._events.emit(Sampled, request=request_id, number=answering.parts, deltas=deltas, usage=usage)
        answering.parts += 1

    def _fail_all(self, code: str, message: str) -> None:
        self._batch.clear()
        for request_id, answering in self._requests.items():
            kind = "user" if code == "diverged" else "infrastructure"
            error = SamplingError.model_validate({"kind": kind, "code": code, "message": message})
            self._refuse(request_id, answering.parts, error)
        self._requests = {}

    def _refuse(self, request_id: str, number: int, error: SamplingError) -> None:
        self._events.emit(Sampled, request=request_id, number=number, deltas=[], error=error)
