"""`asym keys create|list|rotate|revoke`."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer

from client.cli.output import AsJson, ago, print_json, print_table, remark
from client.results import Key

app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    role: Annotated[Literal["viewer", "member", "admin"], typer.Option()] = "member",
    member: Annotated[
        str | None, typer.Option(metavar="MEMBER_ID", help="Whose it is, as `asym members list` shows; else yours.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do of what its role may, e.g. jobs:write; repeat it.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Until it ends by itself.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once and cannot be read again."""
    from client.sdk import Asym

    end = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    with Asym() as asym:
        key = asym.create_key(name, role=role, member_id=member, scopes=scope, expires_at=end)
        url = asym.api_url
    _show(key, url, as_json)


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_…, as `asym keys list` shows it.")],
    grace: Annotated[int, typer.Option(metavar="SECONDS", help="For how long the old key goes on working.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Make a new key in the place of one, which ends at once or after the grace."""
    from client.sdk import Asym

    with Asym() as asym:
        made = asym.rotate_key(key, grace_seconds=grace)
        url = asym.api_url
    _show(made, url, as_json)


def _show(key: Key, url: str, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    print(key["key"])
    narrowed = f", scopes {', '.join(key['scopes'])}" if key["scopes"] else ""
    remark(f"{key['id']}, role {key['role']}{narrowed}; it is not shown again")
    remark(f"its holder sets ASYM_API_URL={url} and ASYM_API_KEY")


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the team's keys."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.keys()
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "key", "member", "role", "created", "last used", "expires", "revoked"),
        (
            (
                each["id"],
                each["name"],
                f"{each['prefix']}…",
                each["member_id"],
                each["role"],
                ago(each["created_at"]),
                ago(each["last_used_at"]),
                each["expires_at"] or "–",
                ago(each["revoked_at"]),
            )
            for each in found
        ),
        empty="no keys",
    )


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_…, as `asym keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Make a key invalid at once and for good."""
    from client.sdk import Asym

    with Asym() as asym:
        asym.revoke_key(key)
    if as_json:
        print_json({"id": key, "revoked": True})
    else:
        print(f"{key} revoked")
