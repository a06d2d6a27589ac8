"""Verifiers: is a response right? From a response and its ground truth to a reward, whatever the response does.

    math      Math-Verify on the last `\\boxed{}`, else on the last expression; in killable subprocesses
    numeric   the last number, compared exactly
    exact     the text itself, whitespace and case aside where asked
    regex     a pattern matches, or what it finds is the answer
    choice    the letter of a multiple-choice question
    similarity   near enough to the answer, by characters or words
    reasoning_gym:TASK   the scorer of a task of the package reasoning-gym; in killable subprocesses
    http:NAME            an endpoint of the operator's
    plugin:NAME          a verifier that another package installed; in killable subprocesses
    python               the user's own code; in killable subprocesses within a sandbox

`verify` judges one response, `VerifierPool` the many of a training step. Nothing here imports torch; sympy and
reasoning_gym are imported in the subprocesses only.
"""

from trainer.rewards.answer_error import BadAnswerError as BadAnswerError
from trainer.rewards.kinds import KINDS as KINDS
from trainer.rewards.permits import Permits as Permits
from trainer.rewards.pool import Verdict as Verdict
from trainer.rewards.pool import VerifierPool as VerifierPool
from trainer.rewards.pool import VerifyItem as VerifyItem
from trainer.rewards.process import VerifierUnavailableError as VerifierUnavailableError
from trainer.rewards.single import check_answer as check_answer
from trainer.rewards.single import verify as verify
from trainer.rewards.verifier_error import UnusableVerifierError as UnusableVerifierError
