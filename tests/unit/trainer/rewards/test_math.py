"""`math` as a rule table: what a response says, what the ground truth is, whether it is right."""

import pytest

from trainer.rewards import BadAnswerError, VerifierPool, VerifyItem, verify

RIGHT = [
    (r"So the answer is $\boxed{72}$.", "72"),
    ("The answer is 72", "72"),
    ("The answer is $1,234.", "1234"),
    ("Natalia sold 48/2 = 24 clips in May.\n#### 72", "72"),
    ("The final answer is $72$. I hope it is correct.", "72"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    (r"\boxed{0.5}", r"\frac{1}{2}"),
    (r"\boxed{\frac12}", r"\frac{1}{2}"),
    (r"\boxed{\dfrac{3}{4}}", "3/4"),
    (r"\boxed{1/2}", r"\dfrac{1}{2}"),
    (r"\boxed{3\frac{1}{2}}", "3.5"),
    (r"\boxed{-5}", "-5"),
    (r"\boxed{-\frac{2}{3}}", r"\frac{-2}{3}"),
    (r"\boxed{\sqrt{8}}", r"2\sqrt{2}"),
    (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{\sqrt{2}}{2}"),
    (r"\boxed{2\pi}", r"2\pi"),
    (r"\boxed{\pi r^2}", r"\pi r^2"),
    (r"\boxed{x^2 + 2x + 1}", "(x+1)^2"),
    (r"\boxed{y + x}", "x+y"),
    (r"\boxed{a + b + c}", "a+b+c"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{12\text{ cm}}", "12"),
    (r"\boxed{12 \mbox{ cm}^2}", "12"),
    (r"\boxed{7\text{ hours}.}", "7"),
    (r"\boxed{90^\circ}", "90"),
    (r"\boxed{30^\circ.}", "30"),
    (r"\boxed{\$1,234.50}", "1234.50"),
    (r"\boxed{\$65}", "65"),
    (r"\boxed{11,\!111,\!100}", "11111100"),
    (r"\boxed{20\%}", "20"),
    (r"\boxed{20}", r"20\%"),
    (r"\boxed{20 \%}", r"20\%"),
    (r"\boxed{50\%}", "0.5"),
    (r"\boxed{0.5}", r"50\%"),
    (r"\boxed{237.5\%}", "237.5"),
    (r"\boxed{10^{-3}}", "0.001"),
    (r"\boxed{2^{10}}", "1024"),
    (r"\boxed{(1, 2)}", "(1,2)"),
    (r"\boxed{[0, 1)}", "[0,1)"),
    (r"\boxed{\{3, 1, 2\}}", r"\{1,2,3\}"),
    (r"\boxed{1, 2, 3}", "1,2,3"),
    (r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\boxed{x \le 5}", r"x \leq 5"),
    (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}"),
    (r"\boxed{Evelyn}", r"\text{Evelyn}"),
    (r"\boxed{\text{A, B}}", "A,B"),
    (r"\boxed{\text{(C)}}", "(C)"),
    (r"\boxed{3 + 4i}", "3+4i"),
    (r"\boxed{\infty}", r"\infty"),
    (r"First I found $\boxed{3}$, but the real answer is $\boxed{5}$.", "5"),
    (r"\boxed{72} and then the class went home after 3 hours.", "72"),
    (r"\boxed{72}", r"\boxed{72}"),
    (r"\boxed{72}", "$72$"),
    ("x^2+1", "x^2+1"),
    (r"\boxed{0.333333}", r"\frac{1}{3}"),
]

WRONG = [
    (r"\boxed{71}", "72"),
    (r"I found 72 but then \boxed{71}", "72"),
    (r"First $\boxed{72}$, no: $\boxed{71}$.", "72"),
    (r"72, so \boxed{", "72"),
    (r"72, so \boxed{}", "72"),
    (r"72, so \boxed{72", "72"),
    ("", "72"),
    ("   ", "72"),
    ("I do not know.", "72"),
    (r"\boxed{5}", "-5"),
    (r"\boxed{\frac{1}{3}}", r"\frac{1}{2}"),
    (r"\boxed{2\pi}", "2"),
    (r"\boxed{\sqrt{2}}", "2"),
    (r"\boxed{x+y}", "x-y"),
    (r"\boxed{(2,1)}", "(1,2)"),
    (r"\boxed{[0,1]}", "[0,1)"),
    (r"\boxed{1, 2}", "1,2,3"),
    (r"\boxed{20\%}", "2"),
    (r"\boxed{20\%}", r"0.2\%"),
    (r"\boxed{\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\boxed{11/2}", r"1 1/2"),
    (r"\boxed{\text{Evelyn}}", r"\text{Briana}"),
    (r"\boxed{B}", "A"),
    (r"\boxed{x=5}", "6"),
    (r"\boxed{72 \text{ or } 71}", "72"),
    ("#### 71\n", "72"),
]


@pytest.fixture(scope="module")
def pool():
    with VerifierPool("math", workers=2, timeout_seconds=20) as pool:
        yield pool


def test_right_and_wrong(pool):
    cases = [(*case, 1.0) for case in RIGHT] + [(*case, 0.0) for case in WRONG]
    verdicts = pool.score([VerifyItem(response, answer) for response, answer, _ in cases])
    differing = [
        (response, answer, verdict)
        for (response, answer, reward), verdict in zip(cases, verdicts, strict=True)
        if (verdict.reward, verdict.error) != (reward, None)
    ]
    assert differing == []


def test_rewards_do_not_depend_on_what_was_verified_before(pool):
    items = [VerifyItem(*case) for case in [*RIGHT, *WRONG]]
    forwards = [verdict.reward for verdict in pool.score(items)]
    backwards = [verdict.reward for verdict in pool.score(items[::-1])]
    assert forwards == backwards[::-1]


def test_an_answer_without_an_expression_is_reported(pool):
    problems = pool.check_answers(["72", "", "   ", r"\boxed{}"])
    assert problems[0] is None
    assert all(problem is not None for problem in problems[1:])
    assert pool.score([VerifyItem(r"\boxed{72}", "")])[0].error == "bad_answer"


def test_verify_runs_in_a_subprocess_of_its_own():
    assert verify("math", r"\boxed{\frac{1}{2}}", "0.5") == 1.0
    assert verify("math", r"\boxed{1}", "2") == 0.0
    with pytest.raises(BadAnswerError):
        verify("math", r"\boxed{1}", "")


def test_a_number_that_takes_forever_is_worth_nothing():
    assert verify("math", "$99999999!$", "1", timeout_seconds=1.0) == 0.0
    assert verify("math", r"\boxed{1}", "1") == 1.0
