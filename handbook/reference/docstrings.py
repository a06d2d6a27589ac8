"""The strings under a class's fields, read from its source; Python itself forgets them."""

import ast
import inspect
import textwrap


def of_fields(model: type) -> dict[str, str]:
    """Field -> the string under it, those of base classes included."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each.__module__.startswith(("trainer.", "store.")):
            found |= _own(each)
    return found


def _own(model: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    if not isinstance(tree, ast.ClassDef):
        raise TypeError(f"{model.__name__} is no class")
    found = {}
    for statement, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[statement.target.id] = inspect.cleandoc(after.value.value)
    return found
