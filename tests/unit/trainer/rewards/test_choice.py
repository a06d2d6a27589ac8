"""`choice`: the letter that a response states, in the shapes models write, and nothing where none is stated."""

import pytest

from trainer.rewards import BadAnswerError, check_answer, verify
from trainer.rewards.choice import stated_choice

STATED = [
    (r"So we get \boxed{B}", "B"),
    (r"\boxed{\text{B}}", "B"),
    (r"\boxed{\textbf{(C)}}", "C"),
    (r"$\boxed{\mathrm{D}}$.", "D"),
    (r"\boxed{(A)}", "A"),
    (r"\boxed{B. 42}", "B"),
    (r"\boxed{(E)\ 12}", "E"),
    (r"\boxed{\text{(B) Paris}}", "B"),
    (r"\boxed{A} no, wait: \boxed{C}", "C"),
    (r"The answer is (B), so \boxed{C}", "C"),
    (r"\boxed{b}", "B"),
    ("The answer is (B).", "B"),
    ("The answer is B.", "B"),
    ("the answer is (b)", "B"),
    ("The correct answer is: C", "C"),
    ("The correct answer is **C**.", "C"),
    ("Therefore, the answer is D", "D"),
    ("The answer is A because 2 + 2 = 4", "A"),
    ("The answer is A, since nothing else fits.", "A"),
    ("The answer is A) Paris", "A"),
    ("The answer is A: it is the only prime.", "A"),
    ("The answer is $B$.", "B"),
    ("The answer is option B.", "B"),
    ("Answer: B", "B"),
    ("**Answer: B**", "B"),
    ("**Answer:** B", "B"),
    ("**Final Answer**: (D)", "D"),
    ("Final answer: D", "D"),
    ("Answer:\nC", "C"),
    ("ANSWER: C.", "C"),
    ("Answer: b", "B"),
    ("Answer: (A) 12", "A"),
    ("The correct option is C.", "C"),
    ("The correct choice is (D)", "D"),
    ("Option B is correct.", "B"),
    ("Hence (B) is the correct answer.", "B"),
    ("The answer should be E.", "E"),
    ("I first thought the answer is A. But the answer is B.", "B"),
    ("Answer: A\nLet me check again.\nAnswer: D", "D"),
    ("So it is **B**", "B"),
    ("It must be **(C)**, as shown.", "C"),
    ("**B.**", "B"),
    ("A is too small. C is too large.\n\nB", "B"),
    ("B", "B"),
    ("(B)", "B"),
    (" b \n", "B"),
    ("B.", "B"),
    ("#### D", "D"),
    ("<think>maybe A</think>\n<answer>C</answer>", "C"),
    ("<answer>(C)</answer>", "C"),
    ("Options:\nA) 1\nB) 2\n\nThe answer is B) 2", "B"),
]

NOT_STATED = [
    "",
    " \n",
    "A triangle has three sides.",
    "The answer is A triangle with equal sides.",
    "The answer is a prime number.",
    "The answer is a",
    "The answer is 42.",
    "The answer is Berlin.",
    "The answer is A or B.",
    "The answer is A and C",
    "The answer is A, B",
    "The answers are A and B.",
    "Answer: A/B",
    "Answer: (A) or (B)",
    "Answer: A, B and C",
    "The answer is not B.",
    "I am not sure. A is possible, B as well.",
    "**A** is small, **B** is large",
    "A) 1\nB) 2\nC) 3",
    "Choose A if it rains.",
    "I",
    "A nice day",
    "Answer: Because of the rain",
    "Answer: D'Artagnan",
    "Vitamin C",
    r"\boxed{}",
    r"\boxed{B",
    r"\boxed{42}",
    r"\boxed{A, B}",
    r"\boxed{A or B}",
    r"\boxed{Paris} Answer: B",
    "The answer is Z.",
    "Do you think that the answer is B?",
    "Answer: F",
    "G",
]


@pytest.mark.parametrize(("response", "letter"), STATED)
def test_stated(response, letter):
    assert stated_choice(response) == letter
    assert verify("choice", response, letter) == 1.0
    assert verify("choice", response, "A" if letter != "A" else "B") == 0.0


@pytest.mark.parametrize("response", NOT_STATED)
def test_not_stated(response):
    assert stated_choice(response) is None
    assert all(verify("choice", response, letter) == 0.0 for letter in "ABCDE")


@pytest.mark.parametrize("answer", ["B", "(B)", "b", " B ", "B.", "B)", r"\text{B}", "[B]", "**B**"])
def test_answers_may_be_written_in_several_ways(answer):
    assert check_answer("choice", answer) is None
    assert verify("choice", "Answer: B", answer) == 1.0


@pytest.mark.parametrize("answer", ["", "42", "AB", "A or B", "F", "Paris", "-"])
def test_what_is_no_choice_is_no_answer(answer):
    assert "is none of the choices A, B, C, D, E" in check_answer("choice", answer)
    with pytest.raises(BadAnswerError):
        verify("choice", "B", answer)


def test_the_choices_are_an_option():
    assert verify("choice", "The answer is H.", "H", choices="ABCDEFGH") == 1.0
    assert verify("choice", "The answer is C.", "A", choices="AB") == 0.0
    for wrong in ("A", "ABA", "abc", "A1", ""):
        with pytest.raises(ValueError, match=r"options\.choices"):
            verify("choice", "A", "A", choices=wrong)


def test_long_responses_take_no_time():
    for piece in ("answer is ", "The answer: (", "**", "option A is ", "Answer: A, ", "\n", "answer is A or "):
        response = piece * (100_000 // len(piece))
        assert verify("choice", response, "B") == 0.0
