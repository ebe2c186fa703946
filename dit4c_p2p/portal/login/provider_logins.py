"""Logging in with a provider: from the button to an identity, in one browser and once."""

import hmac
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from authlib.common.security import generate_token

from dit4c_p2p.database import in_transaction
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.login.attempts import AttemptOver, LoginAttempts
from dit4c_p2p.portal.login.config import GitHubProviderConfig, LoginConfig
from dit4c_p2p.portal.login.github import GitHubProvider
from dit4c_p2p.portal.login.identity import Identity, IdentityProvider, ProviderNonsense
from dit4c_p2p.portal.login.oidc import OidcProvider

_log = logging.getLogger(__name__)

_PURPOSE = "provider"
# RFC 7636 section 4.1: 43 to 128 characters.
_VERIFIER_CHARS = 64
_MAX_SECRET_BYTES = 4096


@dataclass(frozen=True)
class LeavingForProvider:
    """Where the browser goes, and the text of the attempt's cookie."""

    url: str
    sealed: str


@dataclass(frozen=True)
class ReturnedFromProvider:
    """Who has come back, and what the attempt was begun with."""

    identity: Identity
    begun_with: Mapping[str, str]


class ProviderLogins:
    """The providers of a portal.

    :param url: the portal's canonical URL.
    :raises ConfigError: a secret can't be read, or a rule names no provider.
    """

    def __init__(
        self,
        config: LoginConfig,
        url: str,
        attempts: LoginAttempts,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._attempts = attempts
        self._providers: dict[str, IdentityProvider] = {}
        for provider in config.providers:
            secret = _read_provider_secret(provider.secret_file)
            if isinstance(provider, GitHubProviderConfig):
                self._providers[provider.id] = GitHubProvider(provider, secret)
            else:
                self._providers[provider.id] = OidcProvider(provider, secret, clock=clock)

    @property
    def offered(self) -> Sequence[IdentityProvider]:
        """The providers, in the order of the configuration."""
        return list(self._providers.values())

    def name_of(self, provider: str) -> str:
        """What people call a provider; its id if it is not there any more."""
        found = self._providers.get(provider)
        return found.name if found else provider

    async def begin(self, provider: str, attempt: str, **data: str) -> LeavingForProvider:
        """Send a browser to a provider.

        :param attempt: the attempt's name in this browser.
        :param data: what :meth:`finish` returns again.
        :raises NotFound: no such provider.
        :raises ProviderError: it can't be asked.
        """
        chosen = self._provider(provider)
        # The state says which attempt it is of, so that tabs opened together don't mix.
        state = f"{attempt}.{secrets.token_urlsafe(32)}"
        nonce, verifier = generate_token(43), generate_token(_VERIFIER_CHARS)
        try:
            url = await chosen.authorization_url(
                self._callback(provider), state=state, nonce=nonce, verifier=verifier
            )
        except ProviderNonsense as error:
            _log.warning("provider %s: %s", provider, error.reason)
            raise
        known = {"provider": provider, "state": state, "nonce": nonce, "verifier": verifier}
        return LeavingForProvider(url, self._attempts.begin(_PURPOSE, **data, **known))

    async def finish(
        self, provider: str, answer: Mapping[str, str], read: Callable[[str], str]
    ) -> ReturnedFromProvider:
        """Find out who has come back from a provider.

        :param answer: the redirect's query.
        :param read: returns the text of an attempt's cookie by the attempt's name.
        :raises NotFound: no such provider.
        :raises AttemptOver: not begun in this browser with this provider, late, or finished.
        :raises ProviderError: the provider has let nobody in, or can't be asked.
        """
        chosen, state = self._provider(provider), answer.get("state", "")
        attempt = self._attempts.opened(_PURPOSE, read(attempt_of_redirect(answer)))
        begun = attempt.data
        same = hmac.compare_digest(begun["state"].encode(), state.encode())
        if begun["provider"] != provider or not same:
            raise AttemptOver
        async with in_transaction("portal"):
            await self._attempts.finish(attempt)
        try:
            identity = await chosen.identity(
                self._callback(provider),
                answer,
                nonce=begun["nonce"],
                verifier=begun["verifier"],
            )
        except ProviderNonsense as error:
            _log.warning("provider %s: %s", provider, error.reason)
            raise
        return ReturnedFromProvider(identity, begun)

    def _provider(self, id: str) -> IdentityProvider:
        found = self._providers.get(id)
        if found is None:
            raise NotFound("there is no such way to log in", hint="use the login page")
        return found

    def _callback(self, provider: str) -> str:
        return f"{self._url}/login/with/{provider}/callback"


def attempt_of_redirect(answer: Mapping[str, str]) -> str:
    """The name of the attempt that a redirect belongs to."""
    return answer.get("state", "").partition(".")[0]


def _read_provider_secret(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        with file.open("rb") as stream:
            secret = stream.read(_MAX_SECRET_BYTES + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"the provider's secret {file} can't be read: {reason}",
            hint="write the secret into the file, which the portal's user may read",
        ) from None
    if not secret or len(secret) > _MAX_SECRET_BYTES:
        raise ConfigError(f"{file} holds no secret", hint="write the secret into it, as one line")
    return secret
