"""What a portal is told about logging in: providers, who may come, and the login page."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Signup = Literal["closed", "listed"]
TokenAuth = Literal["client_secret_basic", "client_secret_post"]


@dataclass(frozen=True)
class OidcProviderConfig:
    """An OpenID Connect provider.

    :ivar name: what people read, such as their university's name.
    :ivar issuer: as the provider says it of itself.
    :ivar secret_file: holds the client's secret; None for a public client.
    :ivar icon: a small picture for the button.
    """

    id: str
    name: str
    issuer: str
    client_id: str
    secret_file: Path | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    token_auth: TokenAuth = "client_secret_basic"
    icon: Path | None = None


@dataclass(frozen=True)
class GitHubProviderConfig:
    """GitHub.

    :ivar url: where its pages are.
    :ivar api: where its API is.
    """

    id: str
    name: str
    client_id: str
    secret_file: Path
    url: str = "https://github.com"
    api: str = "https://api.github.com"
    icon: Path | None = None


@dataclass(frozen=True)
class SignupRule:
    """Who may come without an invitation, where signup is ``listed``.

    :ivar provider: the id of the provider that has to know them.
    :ivar claim: ``group``, ``domain`` (of an address that the provider has verified), another
        claim's name, or empty for everybody whom the provider knows.
    :ivar value: what the claim has to be, or to have among others.
    :ivar group: the id of a group here that they come into; empty for none.
    """

    provider: str
    claim: str = ""
    value: str = ""
    group: str = ""


@dataclass(frozen=True)
class LoginConfig:
    """Logging in.

    :ivar admins: identities, as provider and subject, whose people are admins.
    :ivar title: the login page's heading.
    :ivar text: what the institution says there; empty lines part paragraphs.
    """

    providers: tuple[OidcProviderConfig | GitHubProviderConfig, ...] = ()
    signup: Signup = "closed"
    rules: tuple[SignupRule, ...] = ()
    admins: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    title: str = ""
    text: str = ""
    logo: Path | None = None
    background: Path | None = None
