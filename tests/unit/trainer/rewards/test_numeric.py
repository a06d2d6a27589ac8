"""`numeric` as a rule table, and its bounds."""

import time

import pytest

from trainer.rewards import BadAnswerError, check_answer, verify

RIGHT = [
    ("The answer is $1,234.", "1234"),
    ("The answer is 1234", "1,234"),
    ("48/2 = <<48/2=24>>24 clips in May.\n#### 72", "72"),
    ("#### 72\n\nQuestion: what is 3 + 4?", "72"),
    ("#### $1,000", "1000"),
    ("#### -5", "-5"),
    (r"So it is $\boxed{72}$. I checked it 3 times.", "72"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    (r"\boxed{\frac12}", "1/2"),
    (r"\boxed{-\dfrac{3}{4}}", "-0.75"),
    (r"\boxed{\frac{-3}{4}}", "-0.75"),
    (r"\boxed{3\frac{1}{2}}", "3.5"),
    ("That makes 1 1/2 cups.", "1.5"),
    ("3/4 of the cake", "0.75"),
    (r"\boxed{\$1{,}234.50}", "1234.5"),
    (r"\boxed{1,\!234}", "1234"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{5\text{ cm}^2}", "5"),
    (r"\boxed{90^\circ}", "90"),
    ("The area is 5 cm^2.", "5"),
    ("He has 12 apples", "12"),
    ("He walks 12km.", "12"),
    ("She finished 72nd.", "72"),
    ("10 - 2 - 3 = 5", "5"),
    ("10-5", "5"),
    ("The temperature is -5 degrees.", "-5"),
    ("x = - 5", "-5"),
    ("x = −5", "-5"),
    ("He lost -$5", "-5"),
    ("He lost $-5", "-5"),
    ("Answer:\n- 5", "5"),
    ("It is 25%.", "25"),
    ("It is 25%", "0.25"),
    ("It is 25 percent", "25%"),
    ("0.25", "25%"),
    (r"\boxed{25\%}", "25%"),
    ("1e3", "1000"),
    (r"1.2 \times 10^{3}", "1200"),
    ("3 x 10^-2", "0.03"),
    ("2^10", "1024"),
    ("**72**", "72"),
    ("**Answer: 72.**", "72"),
    (".5", "0.5"),
    ("72.00", "72"),
    ("€1,000,000", "1000000"),
    ("First 3, then 4, and finally 5.", "5"),
    ("It costs 0.1 + 0.2 = 0.3 dollars", "0.3"),
    ("H2O weighs 18", "18"),
    ("18 grams of H2O", "18"),
    ("12345678901234567890123456789", "12345678901234567890123456789"),
    ("Step 1: 5 apples\nStep 2: 6 pears\nTotal: 11", "11"),
    ("the answer is 5,", "5"),
]

WRONG = [
    ("", "72"),
    ("no number here", "72"),
    ("The answer is 72. That took 3 steps.", "72"),
    (r"72, so \boxed{", "72"),
    (r"72, so \boxed{}", "72"),
    (r"72 but \boxed{71}", "72"),
    (r"\boxed{2\pi}", "2"),
    (r"The answer is $2\pi$", "2"),
    (r"\boxed{\sqrt{2}}", "2"),
    (r"The answer is $\sqrt{2}$", "2"),
    (r"\boxed{\frac{\sqrt{3}}{2}}", "2"),
    (r"The answer is $\frac{\sqrt{3}}{2}$", "2"),
    (r"\boxed{2^5}", "2"),
    (r"\boxed{3, 5}", "5"),
    (r"\boxed{5 \text{ hours } 20 \text{ minutes}}", "20"),
    ("5", "-5"),
    ("-5", "5"),
    ("0.3333", "1/3"),
    ("72.0001", "72"),
    ("1,2345", "12345"),
    ("12 / 0", "12"),
    ("12345678901234567890123456788", "12345678901234567890123456789"),
    ("25%", "2500"),
    ("x_2", "2"),
    ("inf", "1"),
    ("nan", "1"),
    ("9" * 500, "9"),
    ("10^999999999", "1"),
    ("1e999999999", "1"),
    ("#### 71", "72"),
]


@pytest.mark.parametrize(("response", "answer"), RIGHT)
def test_right(response, answer):
    assert verify("numeric", response, answer) == 1.0


@pytest.mark.parametrize(("response", "answer"), WRONG)
def test_wrong(response, answer):
    assert verify("numeric", response, answer) == 0.0


@pytest.mark.parametrize(
    ("response", "answer", "tolerance", "reward"),
    [
        ("3.14", "3.14159", 0.01, 1.0),
        ("3.1", "3.14159", 0.01, 0.0),
        ("1010", "1000", 0.01, 1.0),
        ("1011", "1000", 0.01, 0.0),
        ("0.1", "0.3", 0.2, 1.0),
        ("0.1", "0.31", 0.2, 0.0),
    ],
)
def test_tolerance_is_exact_at_its_edge(response, answer, tolerance, reward):
    assert verify("numeric", response, answer, tolerance=tolerance) == reward


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf"), True])
def test_tolerance_must_be_sensible(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        verify("numeric", "1", "1", tolerance=tolerance)


@pytest.mark.parametrize("answer", ["", "  ", "abc", "3 or 4", r"2\pi", r"\sqrt{2}", "1/0", "9" * 500])
def test_answers_that_are_not_one_number_are_reported(answer):
    assert "is not one number" in check_answer("numeric", answer)
    with pytest.raises(BadAnswerError, match="is not one number"):
        verify("numeric", "5", answer)


@pytest.mark.parametrize("answer", ["5", "-1,234.5", "$5", "25%", "1/2", r"\frac{1}{2}", "12 apples", "x = 5", "1e3"])
def test_answers_that_are_one_number_are_fine(answer):
    assert check_answer("numeric", answer) is None


@pytest.mark.parametrize(
    "response",
    [
        "1" * 100_000,
        "1," * 50_000,
        "1/" * 50_000,
        " " * 100_000,
        "1" + " " * 99_999,
        "\\frac{1" + " " * 90_000,
        "{-" + " " * 90_000 + "1",
        "-" * 100_000,
        "$" * 100_000,
        "\\boxed{" * 14_000,
        "#### 1" + " " * 90_000 + "x",
        "#### \n" * 16_000,
        "\\frac{" * 16_000,
        "1 1/" * 25_000,
        "\\sqrt{" * 16_000,
    ],
    ids=lambda response: repr(response[:8]),
)
def test_time_is_linear_in_the_length(response):
    # Quadratic ones took 7 s here; the bound leaves room for a machine that is busy with other things.
    started = time.process_time()
    verify("numeric", response, "7")
    assert time.process_time() - started < 2.0
