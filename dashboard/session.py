"""Who is looking: the API key of this browser session, and the connection that goes with it.

A key typed in the browser lives in Streamlit's session state only: neither on disk nor in the URL. So does the one that
the API gives to whoever signs in at an identity provider, where the operator has set one up. A dashboard that
serves this machine alone may look with the key of this machine (ASYM_API_KEY, or what `asym up` filed), since whoever
reaches it can read that key anyway. Environment and files are read by the client.
"""

from urllib.parse import urlsplit

import streamlit as st
from streamlit.runtime.secrets import secrets_singleton

from client import Asym, AsymError, NoCredentials, Unreachable
from client.sign_in import exchange_id_token
from dashboard import wording

TYPED_KEY = "asym_typed_key"
TEAMS = "asym_sign_in_teams"
PROBLEM = "asym_sign_in_problem"
TIMEOUT = 10.0
"""Seconds. A page that waits is worse than a page that says so: it comes back by itself."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@st.cache_resource(max_entries=64, show_spinner=False)
def _connection(api_key: str | None) -> Asym:
    return Asym(api_key=api_key, timeout=TIMEOUT, retries=1)


def connection() -> Asym | None:
    """The API as seen with this session's key; None while nobody has given one."""
    typed = st.session_state.get(TYPED_KEY)
    if typed:
        return _connection(typed)
    if not serves_this_machine_only():
        return None
    try:
        return _connection(None)
    except NoCredentials:
        return None


def serves_this_machine_only() -> bool:
    """Whether the server listens on loopback and the browser came to it directly, not through somebody's proxy."""
    headers = st.context.headers
    host = urlsplit(f"//{headers.get('Host', '')}").hostname or ""
    forwarded = any(name.lower().startswith(("x-forwarded-", "forwarded")) for name in headers)
    return is_loopback(str(st.get_option("server.address") or "")) and is_loopback(host) and not forwarded


def is_loopback(address: str) -> bool:
    return address.strip("[]").lower() in LOOPBACK


def sign_in() -> None:
    """Ask for a key. It is tried out before it is kept."""
    with st.container(horizontal_alignment="center"), st.container(width=520):
        _ask()


def _ask() -> None:
    st.title("Asym")
    if provider_configured():
        _sign_in_at_provider()
        st.caption("Or:")
    st.write("Sign in with an API key. It stays in this browser tab's session.")
    with st.form("sign-in"):
        key = st.text_input("API key", type="password", placeholder="asym_…", autocomplete="off").strip()
        st.caption("An admin makes keys with `asym keys create NAME`.")
        if st.form_submit_button("Sign in", type="primary") and key:
            _try(key)


def _try(key: str) -> None:
    try:
        _connection(key).me()
    except NoCredentials as error:
        st.error(f"{error.title}. {error.detail or ''}")
    except Unreachable as error:
        st.error(f"{error.title}. Try again when it is up.")
    except AsymError as error:
        st.error("This key is not accepted." if error.status in (401, 403) else str(error))
    else:
        st.session_state[TYPED_KEY] = key
        st.rerun()


def provider_configured() -> bool:
    """Whether the operator has set up an identity provider for this dashboard."""
    return bool(secrets_singleton.load_if_toml_exists() and "auth" in st.secrets)


def _sign_in_at_provider() -> None:
    """Lead to the provider; back from there, exchange its word for a key, of the team that is chosen."""
    if not st.user.is_logged_in:
        if st.button("Sign in with your organisation", type="primary", icon=":material/login:"):
            st.login()
        return
    teams: dict[str, str] = st.session_state.get(TEAMS, {})
    if teams:
        chosen = st.selectbox("Team", list(teams), format_func=lambda team: teams[team], width=520)
        if st.button("Go on", type="primary"):
            _exchange(str(chosen))
    elif PROBLEM not in st.session_state:
        _exchange(None)
    if problem := st.session_state.get(PROBLEM):
        st.error(problem, icon=":material/error:")
        if st.button("Sign in anew", icon=":material/login:"):
            del st.session_state[PROBLEM]
            st.logout()


def _exchange(team_id: str | None) -> None:
    try:
        found = exchange_id_token(str(st.user.tokens.get("id", "")), team_id=team_id, timeout=TIMEOUT)
    except AsymError as error:
        st.session_state[PROBLEM] = wording.inert(error.detail or error.title)
        return
    if found["key"] is None:
        st.session_state[TEAMS] = {team["id"]: f"{team['name']}, {team['role']}" for team in found["teams"]}
    else:
        st.session_state[TYPED_KEY] = found["key"]["key"]
        st.session_state.pop(TEAMS, None)
    st.rerun()


def sign_out() -> None:
    """Forget the key of this session; one that was read from a file is read again."""
    st.session_state.clear()
    _connection.clear()
    if provider_configured() and st.user.is_logged_in:
        st.logout()
