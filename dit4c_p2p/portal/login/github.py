"""GitHub, and GitHub Enterprise Server: OAuth 2.0 with PKCE, and its own API for who it is.

GitHub is no OpenID provider: there is no ID token, so no nonce, ``iss`` or ``aud``. What keeps its
answers apart from another provider's is the redirect URI, which every provider has one of its own.
A person is their numeric id: user names can be changed and given to somebody else.
"""

import logging
from collections.abc import Mapping
from typing import Any

from dit4c_p2p.portal.login.config import GitHubProviderConfig
from dit4c_p2p.portal.login.identity import Identity, ProviderDenied, ProviderNonsense
from dit4c_p2p.portal.login.provider_http import provider_client, read_provider_json

_log = logging.getLogger(__name__)

_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
# user:email for the verified addresses' domains, read:org for the organizations as groups.
_SCOPES = ("read:user", "user:email", "read:org")


class GitHubProvider:
    """One GitHub.

    :param secret: the portal's at GitHub.
    """

    def __init__(self, config: GitHubProviderConfig, secret: str) -> None:
        self.id = config.id
        self.name = config.name
        self._config = config
        self._secret = secret

    async def authorization_url(
        self, redirect_uri: str, *, state: str, nonce: str, verifier: str
    ) -> str:
        """See :class:`IdentityProvider`; GitHub takes no nonce."""
        async with self._client(redirect_uri) as client:
            url, _ = client.create_authorization_url(
                f"{self._config.url}/login/oauth/authorize", state=state, code_verifier=verifier
            )
        return str(url)

    async def identity(
        self, redirect_uri: str, answer: Mapping[str, str], *, nonce: str, verifier: str
    ) -> Identity:
        """See :class:`IdentityProvider`."""
        if "error" in answer:
            _log.info("provider %s: error %.60s", self.id, answer["error"])
            raise ProviderDenied(self.name)
        async with self._client(redirect_uri) as client:
            token = await client.fetch_token(
                f"{self._config.url}/login/oauth/access_token",
                grant_type="authorization_code",
                code=answer.get("code", ""),
                redirect_uri=redirect_uri,
                code_verifier=verifier,
            )
            user = await self._asked(client, token, "user")
            if not isinstance(user, dict):
                raise ProviderNonsense(self.name, "user is no JSON object")
            number = user.get("id")
            if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
                raise ProviderNonsense(self.name, f"the user's id is {number!r}")
            emails = _github_objects(await self._asked(client, token, "user/emails?per_page=100"))
            orgs = _github_objects(await self._asked(client, token, "user/orgs?per_page=100"))
        verified = [one for one in emails if one.get("verified") is True]
        primary = next((one for one in verified if one.get("primary") is True), {})
        return Identity(
            provider=self.id,
            subject=str(number),
            name=_github_text(user.get("name")) or _github_text(user.get("login")),
            username=_github_text(user.get("login")),
            email=_github_text(primary.get("email")),
            domains=frozenset(
                _github_text(one.get("email")).rpartition("@")[2].lower() for one in verified
            ),
            claims={"groups": [_github_text(one.get("login")) for one in orgs], **user},
        )

    def _client(self, redirect_uri: str) -> Any:
        config = self._config
        return provider_client(
            self.name,
            config.client_id,
            self._secret,
            scope=" ".join(_SCOPES),
            redirect_uri=redirect_uri,
            token_endpoint_auth_method="client_secret_post",
        )

    async def _asked(self, client: Any, token: Mapping[str, Any], path: str) -> Any:
        bearer = {"Authorization": f"Bearer {token.get('access_token', '')}", **_HEADERS}
        url = f"{self._config.api}/{path}"
        return await read_provider_json(client, self.name, url, headers=bearer, withhold_token=True)


def _github_objects(found: object) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _github_text(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""
