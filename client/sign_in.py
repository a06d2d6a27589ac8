"""An identity provider's word in, an API key out: what the dashboard does for whoever signs in there."""

import httpx

from client.credentials import find_credentials
from client.errors import Unreachable, problem_of
from client.results import SignedIn


def exchange_id_token(
    id_token: str, *, team_id: str | None = None, api_url: str | None = None, timeout: float = 30.0
) -> SignedIn:
    """The teams that one belongs to and a key that ends by itself; without the key where a team must be chosen first.

    AsymError 401 for a token that proves nothing or names nobody, 404 where signing in is not set up. Unreachable.
    """
    # No key is needed, and none is sent.
    url = find_credentials(api_url, "none").api_url
    body = {"id_token": id_token} | ({} if team_id is None else {"team_id": team_id})
    try:
        answer = httpx.post(f"{url}/sign-in", json=body, timeout=timeout)
    except httpx.TransportError as error:
        raise Unreachable(f"{url} does not answer: {error or type(error).__name__}") from error
    if not answer.is_success:
        raise problem_of(answer)
    found: SignedIn = answer.json()
    return found
