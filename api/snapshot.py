"""python -m api.snapshot: writes docs/openapi.json, the interface as it is (./dev openapi).

A test holds the file against the code, so that a change of what others' programs are written against is seen in review.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from api.main import create_app
from store.settings import Settings

SNAPSHOT = Path(__file__).parents[1] / "docs" / "openapi.json"


def document() -> dict[str, Any]:
    """The OpenAPI document. It depends on no setting and asks no server."""
    nowhere = Path(tempfile.gettempdir())
    url = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    return create_app(Settings(home=nowhere, artifacts=nowhere / "artifacts", database_url=url)).openapi()


def written(document: dict[str, Any]) -> str:
    """As it stands in the file: keys sorted, so that the order of the code says nothing."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(written(document()))
    print(f"wrote {SNAPSHOT}", file=sys.stderr)
