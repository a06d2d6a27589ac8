"""What a backup says of itself: `manifest.json`, which is written last, so that a folder with one is whole."""

from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

NAME = "manifest.json"
DATABASE = "database.dump"
SECRET = "secret"  # noqa: S105 (a file's name)
CREDENTIALS = "credentials.json"
ARTIFACTS = "artifacts"


class BackupError(Exception):
    """A backup cannot be made, or is not fit to be restored from; the text says why and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Part):
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Part):
    format: Literal[1] = 1
    """Of this file; a later one that older programs cannot read has another number."""
    made_at: datetime
    """Of the database's snapshot, by the database's clock."""
    asym: str
    """The version of the program."""
    db_schema: str
    postgres: str
    secret_id: str | None
    """Which secret (store.secret) the platform had; None where it was not to be had."""
    files: dict[str, File]
    """By the path in the backup's folder."""
    missing: dict[str, str] = {}
    """What the database names and was not to be had, or not as it should be: id -> why."""

    @model_validator(mode="after")
    def _paths_stay_inside(self) -> Self:
        for name in self.files:
            path = PurePosixPath(name)
            known = name in (DATABASE, SECRET, CREDENTIALS) or (path.parts[:1] == (ARTIFACTS,) and len(path.parts) > 2)
            if not known or ".." in path.parts or str(path) != name or "\0" in name:
                raise ValueError(f"not a path of a backup: {name!r}")
        if DATABASE not in self.files:
            raise ValueError(f"there is no {DATABASE}")
        return self


def read(folder: Path) -> Manifest:
    """BackupError when it is none, or one that this version cannot read."""
    path = folder / NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}: not a backup, or one that was cut off") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BackupError(
            f"{path} is not a manifest that this version reads ({where}: {first['msg']}); "
            "was the backup made by a newer Asym?"
        ) from error
