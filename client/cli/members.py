"""`asym members list|add|change|remove` and `asym audit`."""

from typing import Annotated, Literal

import typer

from client.cli.output import AsJson, ago, print_json, print_table, remark

app = typer.Typer(help="The members of the team, and their roles.", no_args_is_help=True, rich_markup_mode=None)

MemberId = Annotated[str, typer.Argument(metavar="MEMBER_ID", help="member_…, as `asym members list` shows it.")]
RoleName = Literal["viewer", "member", "admin"]


def register(root: typer.Typer) -> None:
    root.command()(audit)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the team's members."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.members()
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "role", "login", "since"),
        ((each["id"], each["name"], each["role"], each["login"] or "–", ago(each["created_at"])) for each in found),
        empty="no members",
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A person or a program.")],
    role: Annotated[RoleName, typer.Option()] = "member",
    login: Annotated[str | None, typer.Option(help="The name it signs in under at the identity provider.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a member. Then give it a key, or let it sign in."""
    from client.sdk import Asym

    with Asym() as asym:
        member = asym.add_member(name, role=role, login=login)
    if as_json:
        print_json(member)
        return
    print(member["id"])
    remark(f"next: `asym keys create NAME --member {member['id']} --role {member['role']}`")


@app.command()
def change(
    member: MemberId,
    name: Annotated[str | None, typer.Option()] = None,
    role: Annotated[RoleName | None, typer.Option(help="A lower one holds for all its keys at once.")] = None,
    login: Annotated[str | None, typer.Option(help="For signing in; an empty one ends that.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a member another name, role or login."""
    from client.sdk import Asym

    with Asym() as asym:
        changed = asym.change_member(member, name=name, role=role, login=login)
    if as_json:
        print_json(changed)
    else:
        print(f"{changed['id']} is {changed['name']}, {changed['role']}")


@app.command()
def remove(member: MemberId, as_json: AsJson = False) -> None:
    """Take a member out of the team; all its keys end at once."""
    from client.sdk import Asym

    with Asym() as asym:
        asym.remove_member(member)
    if as_json:
        print_json({"id": member, "removed": True})
    else:
        print(f"{member} removed")


def audit(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest entries.")] = 50, as_json: AsJson = False
) -> None:
    """Who did what in the team, newest first. For admins."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.audit(limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("when", "key", "address", "action", "object", "status"),
        (
            (
                ago(each["at"]),
                each["key_id"] or "–",
                each["address"],
                f"{each['action']} ({each['reason']})" if each["reason"] else each["action"],
                each["object"],
                each["status"],
            )
            for each in found
        ),
        empty="nothing yet",
    )
