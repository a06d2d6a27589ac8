"""How every part of a job spec behaves: frozen, strict, finite, unknown keys refused."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


class SpecPart(BaseModel):
    """One section of a job spec. Unknown keys and wrong types are errors that name the field."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        # The strings under the fields are their descriptions in the JSON schema: in the API's documents and in forms.
        use_attribute_docstrings=True,
    )


def _number_written_as_text(value: object) -> object:
    # YAML 1.1 reads `2e-6` (no dot) as text, and every learning rate is written that way.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Real = Annotated[float, BeforeValidator(_number_written_as_text)]
"""A finite number; `2e-6` that a YAML reader left as text counts as one."""
