"""The settings of logging in, a part of the portal's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, setting

if TYPE_CHECKING:
    from dit4c_p2p.portal.login.config import (
        GitHubProviderConfig,
        LoginConfig,
        OidcProviderConfig,
        SignupRule,
    )

_NOWHERE = Path()
_GITHUB = "https://github.com"


@dataclass(frozen=True, kw_only=True)
class LoginSettings(Settings):
    """Who may come, and what the login page looks like."""

    signup: str = setting(
        values.choice("closed", "listed"),
        "Who may come without an invitation: nobody (closed), or whoever meets one of the "
        "[[allow]] rules (listed).",
        default="closed",
    )
    admins: tuple[str, ...] = setting(
        values.list_of(values.text),
        "Identities whose people are admins, as PROVIDER:SUBJECT. The subject is a provider's own "
        "number or word for a person, GitHub's numeric id for example, and never an address.",
        default=(),
        example=("uni:248289761001",),
    )
    title: str = setting(
        values.text, "The login page's heading.", default="", example="Example University"
    )
    text: str = setting(
        values.text,
        "What the institution says on the login page.",
        default="",
        example="For members of the university. Ask the library if you need help.",
    )
    logo: Path = setting(
        values.path,
        "The institution's logo on the login page: an SVG, PNG, JPEG or WebP file.",
        default=_NOWHERE,
        example=Path("/etc/dit4c/logo.svg"),
    )
    background: Path = setting(
        values.path,
        "A picture behind the login page.",
        default=_NOWHERE,
        example=Path("/etc/dit4c/background.jpg"),
    )

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """See :class:`Settings`."""
        for admin in self.admins:
            provider, _, subject = admin.partition(":")
            if not provider or not subject:
                yield "admins", f"{admin!r} is no identity", 'write it as "github:583231"'


@dataclass(frozen=True, kw_only=True)
class ProviderEntry(Settings):
    """Somebody who says who people are."""

    id: str = setting(
        values.peer_id,
        "A word for it; it never changes. Its redirect URI is "
        "https://PORTAL/login/with/ID/callback.",
        example="uni",
    )
    name: str = setting(
        values.text, "What people read on the button.", example="Example University"
    )
    kind: str = setting(
        values.choice("oidc", "github"),
        "An OpenID Connect provider, or GitHub, which is none.",
        default="oidc",
    )
    issuer: str = setting(
        values.text,
        "The provider's issuer, whose /.well-known/openid-configuration is read. For a GitHub "
        "Enterprise Server its URL; left out, it is github.com.",
        default="",
        example="https://login.example.org",
    )
    client_id: str = setting(values.text, "The portal's id at the provider.", example="dit4c")
    client_secret_file: Path = setting(
        values.path,
        "A file with the portal's secret at the provider, which only the portal may read. Left out "
        "for a public client.",
        default=_NOWHERE,
        example=Path("/etc/dit4c/secrets/uni"),
    )
    scopes: tuple[str, ...] = setting(
        values.list_of(values.text),
        "What an OpenID Connect provider is asked for.",
        default=("openid", "profile", "email"),
    )
    token_auth: str = setting(
        values.choice("client_secret_basic", "client_secret_post"),
        "How the secret is sent to an OpenID Connect provider.",
        default="client_secret_basic",
    )
    icon: Path = setting(
        values.path,
        "A small square picture on the button: an SVG, PNG, JPEG or WebP file.",
        default=_NOWHERE,
        example=Path("/etc/dit4c/uni.svg"),
    )

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """See :class:`Settings`."""
        if self.kind == "oidc":
            if not self.issuer:
                yield "issuer", "it is missing", "give the provider's issuer"
            if "openid" not in self.scopes:
                yield "scopes", "openid is missing", 'write ["openid", "profile", "email"]'
        elif self.client_secret_file == _NOWHERE:
            yield "client_secret_file", "it is missing", "GitHub has no public clients"
        if self.issuer and not _is_safe_for_login_secrets(self.issuer):
            yield "issuer", f"{self.issuer!r} is not safe", "it has to begin with https://"

    @property
    def provider(self) -> "OidcProviderConfig | GitHubProviderConfig":
        """As the portal is told."""
        from dit4c_p2p.portal.login.config import GitHubProviderConfig, OidcProviderConfig

        if self.kind == "github":
            url = self.issuer.rstrip("/") or _GITHUB
            return GitHubProviderConfig(
                id=self.id,
                name=self.name,
                client_id=self.client_id,
                secret_file=self.client_secret_file,
                url=url,
                api="https://api.github.com" if url == _GITHUB else f"{url}/api/v3",
                icon=_login_secret_file(self.icon),
            )
        return OidcProviderConfig(
            id=self.id,
            name=self.name,
            issuer=self.issuer,
            client_id=self.client_id,
            secret_file=_login_secret_file(self.client_secret_file),
            scopes=self.scopes,
            token_auth="client_secret_post"
            if self.token_auth == "client_secret_post"
            else "client_secret_basic",
            icon=_login_secret_file(self.icon),
        )


@dataclass(frozen=True, kw_only=True)
class AllowEntry(Settings):
    """People who may come without an invitation, where signup is listed."""

    provider: str = setting(
        values.peer_id, "The id of the provider that has to know them.", example="uni"
    )
    claim: str = setting(
        values.text,
        "What the provider has to say of them: group, domain (of an address that it has verified) "
        "or the name of another claim. Left out, everybody whom it knows.",
        default="",
        example="domain",
    )
    value: str = setting(
        values.text, "What the claim has to be, or to have.", default="", example="example.org"
    )
    group: str = setting(
        values.text, "The id of a group that they come into.", default="", example="guests"
    )

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """See :class:`Settings`."""
        if bool(self.claim) != bool(self.value):
            yield "value", "claim and value go together", "give both, or neither"

    @property
    def rule(self) -> "SignupRule":
        """As the portal is told."""
        from dit4c_p2p.portal.login.config import SignupRule

        return SignupRule(self.provider, self.claim, self.value, self.group)


def login_config(
    settings: LoginSettings,
    providers: Sequence[ProviderEntry],
    allowed: Sequence[AllowEntry],
) -> "LoginConfig":
    """As the portal is told."""
    from dit4c_p2p.portal.login.config import LoginConfig

    identities = [admin.partition(":") for admin in settings.admins]
    return LoginConfig(
        providers=tuple(entry.provider for entry in providers),
        signup="listed" if settings.signup == "listed" else "closed",
        rules=tuple(entry.rule for entry in allowed),
        admins=frozenset((provider, subject) for provider, _, subject in identities),
        title=settings.title,
        text=settings.text,
        logo=_login_secret_file(settings.logo),
        background=_login_secret_file(settings.background),
    )


def _login_secret_file(path: Path) -> Path | None:
    return None if path == _NOWHERE else path


def _is_safe_for_login_secrets(url: str) -> bool:
    """Whether secrets may go there: by HTTPS, or to this machine."""
    return url.startswith(("https://", "http://localhost:", "http://127.0.0.1:"))
