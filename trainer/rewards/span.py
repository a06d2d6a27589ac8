r"""Which part of a response is its final answer."""

import re

from trainer.spec.dataset.final_answer import last_boxed

# A whole line of `#### 72`, as GSM8K's solutions end. `#### Step 2` is a heading, and so is `#### 2. Solve`.
_HASH_LINE = re.compile(r"^[ \t]*+####[ \t]*+([-+−$€£]*+\d[\d.,/]*+[ \t]*+%?+)[ \t]*+$", re.MULTILINE)


def stated_span(response: str) -> str | None:
    r"""What the response marks as its answer: the last `\boxed{}`, else the last `#### number` line.

    None when it marks nothing; empty when its last box is empty or was never closed, which states no answer.
    """
    boxed = last_boxed(response)
    if boxed is not None:
        return boxed
    lines = _HASH_LINE.findall(response)
    return str(lines[-1]).strip() if lines else None
