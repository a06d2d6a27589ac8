"""The team: what it may use and uses, its members, their keys, and who did what.

Who may do what is the API's to decide; buttons that a role cannot use are left out, no more. Whatever changes
something is chosen by id and confirmed by name, never by a row of a table that may have moved.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import streamlit as st

from client import Asym
from client.sdk import RoleName
from dashboard import live, wording
from dashboard.live import Feed

ROLES: tuple[RoleName, ...] = ("viewer", "member", "admin")
SCOPES = ("read", "jobs:write", "datasets:write", "keys:manage", "members:manage", "audit:read")
AUDITED = 200
ROLE_WORDS = "A viewer reads; a member submits runs and uploads data; an admin manages members and everyone's keys."
GRACE = {"at once": 0, "after an hour": 3600, "after a day": 86_400}
_NEW_KEY = "asym_new_key"

Row = Mapping[str, Any]


def show(api: Asym) -> None:
    with live.api_trouble():
        feed = Feed(api)
        me = feed.get("me", lambda api: api.me())
        members = feed.get("members", lambda api: api.members())
        manages_keys = "keys:manage" in me["scopes"]
        keys = feed.get("keys", lambda api: api.keys()) if manages_keys else []
        feed.tell()
        names = {member["id"]: member["name"] for member in members}
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.title(f"Team {wording.inert(me['team_name'])}", width="content")
            st.text(who(me, names))
        _use(me)
        left, right = st.columns([1, 1.7], gap="medium")
        with left:
            _members(api, me, members, keys if manages_keys else None)
        with right:
            st.subheader("API keys", anchor=False)
            if manages_keys:
                _keys(api, me, members, keys, names)
            else:
                st.caption("Admins make keys, see them and revoke them.")
        if "audit:read" in me["scopes"]:
            _audit(feed, names, keys)


def who(me: Row, names: Mapping[str, str]) -> str:
    until = f", valid until {wording.clock(me['expires_at'])}" if me["expires_at"] else ""
    name = names.get(me["member_id"], me["member_id"])
    if name == me["key_name"]:  # made without somebody to belong to: the member is called as the key is
        return f"You are here with the key {name}, {me['role']}{until}"
    return f"You are {name}, {me['role']}, with the key {me['key_name']}{until}"


# ---- limits ----


def _use(me: Row) -> None:
    for column, (label, value, help) in zip(st.columns(4), uses(me), strict=True):
        column.metric(label, value, help=help, border=True)


def uses(me: Row) -> list[tuple[str, str, str]]:
    """(what, how much of how much, what it means) for each limit of the team."""
    used, limits = me["used"], me["limits"]

    def of(shown: str, most: str | None) -> str:
        return shown if most is None else f"{shown} of {most}"

    def count(name: str) -> str:
        return of(str(used[name]), None if limits[name] is None else str(limits[name]))

    hours = None if limits["gpu_hours"] is None else f"{limits['gpu_hours']:,}"
    disk = None if limits["disk_bytes"] is None else wording.size(limits["disk_bytes"])
    return [
        ("GPUs in use", count("running_gpus"), "At this moment. Above the limit, jobs wait."),
        ("Queued runs", count("queued_jobs"), "Above the limit, new ones are refused."),
        (
            "GPU-hours this month",
            of(f"{used['gpu_hours']:,.1f}", hours),
            f"Of the calendar month, UTC. What counts in the fair share now: "
            f"{wording.duration(used['recent_gpu_seconds'])} of GPU time, older use counting less.",
        ),
        ("Disk", of(wording.size(used["disk_bytes"]), disk), "Data sets and checkpoints."),
    ]


# ---- members ----


def _members(api: Asym, me: Row, members: Sequence[Row], keys: Sequence[Row] | None) -> None:
    """`keys`: all of the team's; None where this key may not know them."""
    st.subheader("Members", anchor=False)
    now = datetime.now(UTC)
    held = [key["member_id"] for key in keys or () if state_of(key, now) == "valid"]
    st.dataframe(
        [
            {
                "Name": member["name"],
                "Role": member["role"],
                **({} if keys is None else {"Keys": held.count(member["id"])}),
                "Since": wording.ago(member["created_at"], now),
                "Id": member["id"],
            }
            for member in members
        ],
        hide_index=True,
        key="members",
    )
    if "members:manage" not in me["scopes"]:
        st.caption("Admins add members and change roles.")
        return
    with st.container(horizontal=True):
        if st.button("Add a member", icon=":material/person_add:"):
            _add_member(api)
        if st.button("Change a role", icon=":material/manage_accounts:"):
            _change_member(api, members)
        if st.button("Remove a member", icon=":material/person_remove:"):
            _remove_member(api, members)


@st.dialog("Add a member")
def _add_member(api: Asym) -> None:
    name = st.text_input("Name", key="new-member")
    role = st.segmented_control("Role", ROLES, default="member", required=True, key="new-member-role")
    st.caption(ROLE_WORDS)
    if st.button("Add", type="primary") and _named(name):
        _do(lambda: api.add_member(name.strip(), role=role))


@st.dialog("Change a role")
def _change_member(api: Asym, members: Sequence[Row]) -> None:
    member = _chosen("Member", members)
    role = st.segmented_control("Role", ROLES, default=member["role"], required=True, key=f"role-of-{member['id']}")
    st.caption("A lower role holds for all of the member's keys at once, a higher one for new keys.")
    if st.button(f"Make it {role}", type="primary", disabled=role == member["role"]):
        _do(lambda: api.change_member(member["id"], role=role))


@st.dialog("Remove a member")
def _remove_member(api: Asym, members: Sequence[Row]) -> None:
    member = _chosen("Member", members)
    st.write(f"**Remove {wording.inert(member['name'])}?** Their keys end at once.")
    st.caption("Their runs and data sets stay the team's.")
    if st.button(f"Remove {wording.inert(member['name'])}", type="primary", key="confirm-remove"):
        _do(lambda: api.remove_member(member["id"]))


# ---- keys ----


def state_of(key: Row, now: datetime) -> str:
    """valid, expired or revoked."""
    if key["revoked_at"] and datetime.fromisoformat(key["revoked_at"]) <= now:
        return "revoked"
    if key["expires_at"] and datetime.fromisoformat(key["expires_at"]) <= now:
        return "expired"
    return "valid"


def _keys(api: Asym, me: Row, members: Sequence[Row], keys: Sequence[Row], names: Mapping[str, str]) -> None:
    # In one place of the page, whatever is in it: when the key is hidden what follows would move, and so be mounted
    # anew, and a click on one of the buttons at that moment be lost.
    with st.container():
        _new_key()
    now = datetime.now(UTC)
    ended = st.toggle("Show ended ones", key="ended-keys", bind="query-params")
    shown = [key for key in keys if ended or state_of(key, now) == "valid"]
    st.dataframe(
        [key_row(key, names, now) for key in shown],
        hide_index=True,
        key="keys",
        placeholder=wording.NOTHING,
    )
    valid = [key for key in keys if state_of(key, now) == "valid"]
    with st.container(horizontal=True):
        if st.button("New key", icon=":material/key:"):
            _make_key(api, me, members)
        if st.button("Rotate a key", icon=":material/autorenew:"):
            _rotate_key(api, valid)
        if st.button("Revoke a key", icon=":material/key_off:"):
            _revoke_key(api, me, valid)


def key_row(key: Row, names: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """One row of the table."""
    return {
        "Name": key["name"],
        "Begins with": key["prefix"],
        "Member": names.get(key["member_id"], "removed"),
        "Role": key["role"],
        "Narrowed to": ", ".join(key["scopes"]) if key["scopes"] is not None else wording.NOTHING,
        "Last used": wording.ago(key["last_used_at"], now),
        "Ends": wording.clock(key["expires_at"]),
        "State": state_of(key, now),
        "Id": key["id"],
    }


def _new_key() -> None:
    """The key that was just made: the API shows it once, and so does this page."""
    made = st.session_state.get(_NEW_KEY)
    if made is None:
        return
    st.success(f"The key {wording.inert(made['name'])}. It is shown this once: copy it now.", icon=":material/key:")
    st.code(made["key"], language=None, wrap_lines=True)
    if st.button("Done, hide it"):
        del st.session_state[_NEW_KEY]
        st.rerun()


@st.dialog("New key")
def _make_key(api: Asym, me: Row, members: Sequence[Row]) -> None:
    name = st.text_input("Name", key="new-key", placeholder="laptop, ci, …")
    own = next((place for place, each in enumerate(members) if each["id"] == me["member_id"]), 0)
    member = _chosen("For", members, index=own)
    offered = ROLES[: ROLES.index(member["role"]) + 1]
    role = st.segmented_control("Role", offered, default=offered[-1], required=True, key=f"new-key-role-{member['id']}")
    scopes = st.multiselect("Narrowed to", SCOPES, key="new-key-scopes", placeholder="all that the role may do")
    last = st.date_input("Ends after", value=None, min_value=datetime.now(UTC).date(), key="new-key-end")
    until = datetime.combine(last + timedelta(days=1), time(), UTC).isoformat() if last else None
    if st.button("Make it", type="primary") and _named(name):
        _make(
            lambda: api.create_key(
                name.strip(), role=role, member_id=member["id"], scopes=scopes or None, expires_at=until
            )
        )


@st.dialog("Rotate a key")
def _rotate_key(api: Asym, keys: Sequence[Row]) -> None:
    key = _chosen("Key", keys)
    grace = st.segmented_control("The old one ends", list(GRACE), default="at once", required=True, key="grace")
    if st.button(f"Rotate {wording.inert(key['name'])}", type="primary", key="confirm-rotate"):
        _make(lambda: api.rotate_key(key["id"], grace_seconds=GRACE[grace]))


@st.dialog("Revoke a key")
def _revoke_key(api: Asym, me: Row, keys: Sequence[Row]) -> None:
    key = _chosen("Key", keys)
    st.write(f"**Revoke {wording.inert(key['name'])}?** Whatever uses it is refused from the next request on.")
    if key["id"] == me["key_id"]:
        st.warning("It is the key that you look at this page with.")
    if st.button(f"Revoke {wording.inert(key['name'])}", type="primary", key="confirm-revoke"):
        _do(lambda: api.revoke_key(key["id"]))


# ---- audit ----


def _audit(feed: Feed, names: Mapping[str, str], keys: Sequence[Row]) -> None:
    with st.expander("Audit log: who did what", key="audit-open", on_change="rerun") as shown:
        if not shown.open:
            return
        entries = feed.get("audit", lambda api: api.audit(limit=AUDITED))
        key_names = {key["id"]: key["name"] for key in keys}
        now = datetime.now(UTC)
        st.dataframe(
            [
                {
                    "When": wording.ago(entry["at"], now),
                    "Who": names.get(entry["member_id"] or "", wording.NOTHING),
                    "Key": key_names.get(entry["key_id"], entry["key_id"]),
                    "From": entry["address"],
                    "Did": entry["action"].replace("_", " "),
                    "To": entry["object"],
                    "Answer": f"{entry['status']}" + (f", {entry['reason']}" if entry["reason"] else ""),
                }
                for entry in entries
            ],
            hide_index=True,
            key="audit",
            placeholder=wording.NOTHING,
        )
        st.caption(f"The newest {AUDITED}; `asym audit` and GET /audit have all.")


# ---- what all dialogs do ----


def _chosen(label: str, things: Sequence[Row], *, index: int = 0) -> Row:
    """One of members or keys. Two of a name are told apart by their ids."""
    by_id = {thing["id"]: thing for thing in things}
    chosen = st.selectbox(
        label, list(by_id), index=index, format_func=lambda thing: f"{by_id[thing]['name']} · …{thing[-8:]}"
    )
    return by_id[chosen]


def _named(name: str) -> bool:
    """Says so if there is none. A button that waits for a name would lose the click that follows on typing it."""
    if not name.strip():
        st.warning("Give it a name.")
    return bool(name.strip())


def _do(ask: Callable[[], object]) -> None:
    with live.api_trouble():
        ask()
        st.rerun()


def _make(ask: Callable[[], Any]) -> None:
    with live.api_trouble():
        st.session_state[_NEW_KEY] = ask()
        st.rerun()
