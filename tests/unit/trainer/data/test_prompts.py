"""Problems to token ids: chats and base models, one BOS, nothing cut, every drop counted."""

import pytest
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from trainer.errors import RunError
from trainer.models.tiny_arith import tiny_arith_tokenizer
from trainer.prompts import build_prompts
from trainer.spec.dataset import Message, Problem

SPECIAL = ["<pad>", "<s>", "</s>", "<user>", "<assistant>", "<system>", "<unk>"]
WORDS = ["add", "one", "two", "three", "please", "be", "brief", "so", "answer", "{", "}", ":"]
VOCABULARY = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
CHATML = (
    "<s>{% for message in messages %}<{{ message.role }}> {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML


def tokenizer(chat_template: str | None = None, frame: str = "<s> $A") -> PreTrainedTokenizerFast:
    """Words as tokens; without a chat template a base model's, which puts `frame` around every text."""
    words = Tokenizer(WordLevel(VOCABULARY, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single=frame, special_tokens=[(token, VOCABULARY[token]) for token in ("<s>", "</s>")]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>", "<system>"],
    )
    made.chat_template = chat_template
    return made


def words_of(prompt) -> str:
    names = {index: word for word, index in VOCABULARY.items()}
    return " ".join(names[token] for token in prompt.token_ids)


def build(problems, made, max_prompt_tokens=100, **options):
    return build_prompts(problems, made, max_prompt_tokens=max_prompt_tokens, **options)


CHAT = [Message("user", "add one"), Message("assistant", "two"), Message("user", "add two")]


def test_a_chat_model_gets_the_rendered_chat_with_one_bos():
    prompts = build([Problem(1, "add one two", "three"), Problem(2, CHAT, "three", "exact")], tokenizer(CHATML))
    assert words_of(prompts[0]) == "<s> <user> add one two <assistant>"
    assert words_of(prompts[1]) == "<s> <user> add one <assistant> two <user> add two <assistant>"
    assert [(p.text, p.answer, p.kind, p.row) for p in prompts.prompts] == [
        ("add one two", "three", None, 1),
        ("add two", "three", "exact", 2),
    ]
    assert (len(prompts), prompts.dropped, prompts.dropped_count) == (2, {}, 0)


def test_what_a_verifier_needs_goes_with_the_prompt():
    problem = Problem(1, "add one", "two", "numeric", {"tolerance": 0.1}, {"difficulty": 3})
    prompt = build([problem], tokenizer(CHATML), prompt_template="please {prompt}")[0]
    assert (prompt.kind, prompt.options, prompt.metadata) == ("numeric", {"tolerance": 0.1}, {"difficulty": 3})
    assert (prompt.question, prompt.text) == ("add one", "please add one")


def test_a_system_prompt_comes_first_and_replaces_the_rows_own():
    own = [Message("system", "please"), Message("user", "add one")]
    made = tokenizer(CHATML)
    without = build([Problem(1, own, "two")], made)
    assert words_of(without[0]) == "<s> <system> please <user> add one <assistant>"
    given = build([Problem(1, own, "two"), Problem(2, "add one", "two")], made, system_prompt="be brief")
    assert [words_of(prompt) for prompt in given.prompts] == ["<s> <system> be brief <user> add one <assistant>"] * 2


def test_the_template_goes_around_the_last_user_message_only():
    made = tokenizer(CHATML)
    prompts = build([Problem(1, CHAT, "three")], made, prompt_template="please {prompt} : { }")
    assert words_of(prompts[0]) == "<s> <user> add one <assistant> two <user> please add two : { } <assistant>"
    assert prompts[0].text == "please add two : { }"


def test_a_base_model_gets_the_last_user_text_alone():
    problems = [Problem(1, "add one", "two"), Problem(2, CHAT, "three")]
    prompts = build(problems, tokenizer(), prompt_template="{prompt} answer :")
    assert [words_of(prompt) for prompt in prompts.prompts] == ["<s> add one answer :", "<s> add two answer :"]


@pytest.mark.parametrize("frame", ["<s> $A", "<s> $A </s>"])
def test_a_base_models_prompt_has_one_bos_and_no_eos(frame):
    prompts = build([Problem(1, "add one", "2"), Problem(2, "<s> add one", "2")], tokenizer(frame=frame))
    assert [words_of(prompt) for prompt in prompts.prompts] == ["<s> add one"] * 2


def test_tiny_arith_reads_characters():
    made = tiny_arith_tokenizer()
    prompts = build([Problem(1, "12+34=", "46"), Problem(2, [Message("user", "12+34=")], "46")], made)
    assert prompts[0].token_ids == prompts[1].token_ids
    assert len(prompts[0].token_ids) == 6
    assert made.decode(list(prompts[0].token_ids)) == "12+34="


def test_longer_prompts_are_dropped_and_counted_never_cut():
    problems = [Problem(row, "add " * row, "1") for row in range(1, 8)]
    prompts = build(problems, tokenizer(), max_prompt_tokens=5)
    assert [prompt.row for prompt in prompts.prompts] == [1, 2, 3, 4]
    assert [len(prompt.token_ids) for prompt in prompts.prompts] == [2, 3, 4, 5]
    assert (prompts.dropped, prompts.dropped_count) == ({"too_long": [5, 6, 7]}, 3)


def test_prompts_without_a_token_of_their_own_are_dropped():
    problems = [Problem(1, " \t", "1"), Problem(2, "<s> </s> <user>", "1"), Problem(3, "add", "1")]
    for made in (tokenizer(), tokenizer(CHATML)):
        prompts = build(problems, made)
        assert [prompt.row for prompt in prompts.prompts] == [3]
        assert prompts.dropped == {"empty": [1], "special_only": [2]}


def test_a_system_prompt_without_a_chat_template_is_the_users_error():
    with pytest.raises(RunError, match="no chat template") as raised:
        build([Problem(1, "add one", "2")], tokenizer(), system_prompt="be brief")
    assert raised.value.code == "no_chat_template"


def test_the_chat_template_is_told_what_the_spec_says():
    made = tokenizer(CHATML.replace("<assistant>", "<assistant>{% if quietly %} be brief{% endif %}"))
    problems = [Problem(1, "add one", "2")]
    assert words_of(build(problems, made)[0]).endswith("<assistant>")
    told = build(problems, made, chat_template_kwargs={"quietly": True, "add_generation_prompt": False})
    assert words_of(told[0]).endswith("<assistant> be brief")
    with pytest.raises(RunError, match="no chat template"):
        build(problems, tokenizer(), chat_template_kwargs={"quietly": True})


def test_a_chat_that_the_template_refuses_is_the_users_error():
    made = tokenizer(NO_SYSTEM)
    assert len(build([Problem(1, "add one", "2")], made)) == 1
    with pytest.raises(RunError, match=r"row 7: .* refuses a chat of system, user: no system role") as raised:
        build([Problem(7, "add one", "2")], made, system_prompt="be brief")
    assert raised.value.code == "chat_template_refused"
