"""What an identity provider says of somebody, and the ways it can fail.

ProviderError              the provider's name and what went wrong, for the page that says so
├── ProviderDown           it does not answer, or not in time
├── ProviderNonsense       what it answers is not what the protocol says
└── ProviderDenied         it answers that the person may not, or did not want to
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dit4c_p2p.portal.errors import PortalError


@dataclass(frozen=True)
class Identity:
    """Somebody as a provider knows them.

    ``subject`` never changes and is never given to somebody else; all that lets a person in is the
    pair of provider and subject. ``email`` is for people to read. ``domains`` are those of the
    addresses that the provider has verified, ``claims`` what else it says.
    """

    provider: str
    subject: str
    name: str = ""
    username: str = ""
    email: str = ""
    domains: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What its person knows it by."""
        return (self.email or self.username or self.name or self.subject)[:200]


class ProviderError(PortalError):
    """Logging in with a provider has failed."""

    code = "provider"
    status = 502
    title = "Logging in did not work"


class ProviderDown(ProviderError):
    """The provider does not answer."""

    code = "provider_down"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"{provider} does not answer",
            hint="try again in a few minutes, or log in another way",
        )


class ProviderNonsense(ProviderError):
    """The provider's answer can't be used; the reason is for the portal's log."""

    code = "provider_answer"

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(
            f"{provider} gave an answer that can't be used",
            hint="try again; if it happens again, tell an admin, who finds the reason in the "
            "portal's log",
        )
        self.reason = reason


class WrongProviderClock(ProviderError):
    """The provider's clock and the portal's differ too much."""

    code = "provider_clock"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"the clocks of {provider} and of this portal differ too much",
            hint="an admin has to set the portal's clock; log in another way meanwhile",
        )


class ProviderDenied(ProviderError):
    """The provider did not let the person go on."""

    code = "provider_denied"
    status = 403

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"{provider} did not log you in", hint="start again, or log in another way"
        )


class IdentityProvider(Protocol):
    """A provider that people can log in with."""

    id: str
    name: str

    async def authorization_url(
        self, redirect_uri: str, *, state: str, nonce: str, verifier: str
    ) -> str:
        """Where to send the browser.

        :raises ProviderError: the provider can't be asked.
        """

    async def identity(
        self, redirect_uri: str, answer: Mapping[str, str], *, nonce: str, verifier: str
    ) -> Identity:
        """Who has come back with ``answer``, the query of the redirect; its state is checked.

        :raises ProviderError: nobody, or the provider can't be asked.
        """
