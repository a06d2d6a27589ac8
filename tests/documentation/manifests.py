"""Whether a Kubernetes object and a compose file are what their specifications allow."""

import kubernetes_validate
from compose_viz.spec.compose_spec import ComposeSpecification

KUBERNETES = "1.32"


def check_kubernetes(document: dict) -> None:
    """Unknown fields are errors too."""
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def check_compose(document: dict) -> None:
    ComposeSpecification.model_validate({name: value for name, value in document.items() if not name.startswith("x-")})
