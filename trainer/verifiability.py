"""Before the first step: can the verifiers of a data set be had, and could its answers ever be right?"""

from collections.abc import Sequence

from trainer.errors import RunError
from trainer.event_stream import EventStream
from trainer.prompts import Prompt
from trainer.rewards import UnusableVerifierError, VerifierPool, VerifyItem
from trainer.rewards.kinds import in_process
from trainer.spec.job import JobSpec
from trainer.spec.reward import GRADED_FAMILIES, parse_kind, row_verifier

SHOWN = 10


def check_verifiers(
    spec: JobSpec, reference: str, prompts: Sequence[Prompt], verifier: VerifierPool, events: EventStream
) -> None:
    """RunError for a row whose options are wrong, for a verifier that cannot be had, and when no answer of
    `reference` could ever be matched; a warning with the rows when some could not.

    Answers are looked at for the kinds that are judged in this process only: for the others it takes too long.
    """
    elsewhere: set[str] = set()
    at_once: list[Prompt] = []
    for prompt in prompts:
        try:
            kind, _ = row_verifier(spec.reward.kind, spec.reward.options, prompt.kind, prompt.options)
        except ValueError as error:
            raise RunError("bad_row_options", f"{reference}, row {prompt.row}: {error}") from error
        if spec.algorithm.needs_success_threshold(parse_kind(kind).family in GRADED_FAMILIES):
            raise RunError(
                "reward_not_binary",
                f"{reference}, row {prompt.row} is judged by {kind}, which gives rewards between 0 and 1: set "
                "algorithm.success_threshold, or take an algorithm for any reward, such as preset grpo",
            )
        if in_process(kind) is not None:
            at_once.append(prompt)
        else:
            elsewhere.add(kind)
    try:
        verifier.require(sorted(elsewhere))
    except UnusableVerifierError as error:
        raise RunError("verifier_unusable", str(error)) from error
    found = verifier.check_items([VerifyItem("", prompt.answer, prompt.kind, prompt.options) for prompt in at_once])
    bad = [(prompt.row, problem) for prompt, problem in zip(at_once, found, strict=True) if problem is not None]
    if not bad:
        return
    shown = "; ".join(f"row {row}: {problem}" for row, problem in bad[:SHOWN]) + ("; ..." if len(bad) > SHOWN else "")
    message = f"{len(bad)} of {len(prompts)} answers of {reference} can be matched by no response: {shown}"
    if len(bad) == len(prompts):
        raise RunError("answers_unverifiable", f"{message}. Is reward.kind {spec.reward.kind} the right one?")
    events.log("warning", "answers_unverifiable", message, count=len(bad), rows=[row for row, _ in bad[:1000]])
