"""`asym backup DIR`: the platform's database, data sets, checkpoints, secret and admin key into a new folder.

It may run while jobs train. Exit status: 0 done; 1 it failed, or something that the database names was not to be had
(the rest is backed up, and what is missing is named); 2 wrong usage.
"""

import argparse
import json
import sys
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from store.backup.manifest import BackupError
from store.backup.reaching import database_of
from store.backup.writing import make
from store.errors import SettingsError
from store.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="asym backup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is not there yet")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    try:
        settings = Settings.from_environment()
        if settings.database_url is None and not (settings.home / "postgres").exists():
            raise SettingsError(f"there is no platform in {settings.home}: set ASYM_HOME, or ASYM_DATABASE_URL")
        with database_of(settings) as url:
            written = make(settings, url, folder)
    except SettingsError as error:
        print(f"backup: {error}", file=sys.stderr)
        return 2
    except SQLAlchemyError as error:
        print(f"backup: the database does not answer as it should: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    except (BackupError, OSError) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1
    total = sum(file.bytes for file in written.files.values())
    if arguments.json:
        about = {"folder": str(folder), "made_at": written.made_at.isoformat(), "schema": written.db_schema}
        print(json.dumps({**about, "files": len(written.files), "bytes": total, "missing": written.missing}))
    else:
        print(
            f"{folder}: schema {written.db_schema}, {len(written.files)} files, {total / 2**20:.1f} MiB, "
            f"as of {written.made_at}"
        )
    if settings.secret is not None:
        print("backup: ASYM_SECRET is not in it: keep it, or no key of this backup opens anything", file=sys.stderr)
    for id, why in written.missing.items():
        print(f"backup: {id} is not in it: {why}", file=sys.stderr)
    return int(bool(written.missing))


if __name__ == "__main__":
    sys.exit(main())
