"""Settings of public HTTP servers: certificates and trusted proxies."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.tls import TlsFiles, check_tls_files
from dit4c_p2p.net.trusted_proxies import Network, TrustedProxies
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, setting


@dataclass(frozen=True, kw_only=True)
class TlsSettings(Settings):
    """The certificate, in files that are looked at again when they change."""

    certificate: Path | None = setting(
        values.path,
        "The certificate and those between it and its authority, in PEM (certbot's fullchain.pem).",
        default=None,
        example=Path("/etc/dit4c/tls/certificate.pem"),
        shown=True,
    )
    key: Path | None = setting(
        values.path,
        "Its private key, in PEM, which not every user may read.",
        default=None,
        example=Path("/etc/dit4c/tls/key.pem"),
        shown=True,
    )

    @property
    def files(self) -> TlsFiles | None:
        """Paths of certificate and key, or None if neither is set."""
        if self.certificate is None or self.key is None:
            return None
        return TlsFiles(self.certificate, self.key)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Require certificate and key together."""
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            yield missing, "it is missing beside the other", "give both files"

    def certificate_problems(self, *names: str) -> Iterator[ConfigError]:
        """Yield what is wrong with the two files, for a server of these names."""
        if self.files is not None:
            try:
                check_tls_files(self.files, names)
            except ConfigError as error:
                yield ConfigError(f"tls: {error}", hint=error.hint)


@dataclass(frozen=True, kw_only=True)
class ProxySettings(Settings):
    """TrustedProxies in front, whose word about a visitor's address is believed."""

    addresses: tuple[Network, ...] = setting(
        values.list_of(values.any_network),
        "Their addresses or networks. Left out, nobody is believed.",
        default=(),
        example=(values.any_network.read("192.0.2.80"),),
    )
    proxy_protocol: bool = setting(
        values.flag,
        "Whether their connections begin with a PROXY protocol header (version 1 or 2), instead of "
        "saying it in X-Forwarded-For.",
        default=False,
    )

    @property
    def believed(self) -> TrustedProxies:
        """As the component is told."""
        return TrustedProxies(self.addresses, self.proxy_protocol)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """A protocol is spoken by somebody."""
        if self.proxy_protocol and not self.addresses:
            yield "proxy_protocol", "no proxy speaks it", "give addresses"


def listening_settings_problems(
    listen: object, listen_tls: object, redirect: object, tls: TlsSettings
) -> Iterator[tuple[str, str, str]]:
    """Yield inconsistent addresses of a component's listeners."""
    if not listen and not listen_tls:
        yield "listen", "it listens nowhere", "give listen, or listen_tls with a certificate"
    if listen_tls and tls.files is None:
        yield "listen_tls", "there is no certificate", "give [tls] with certificate and key"
    if tls.files is not None and not listen_tls:
        yield "tls", "nothing listens with it", 'give listen_tls = ["0.0.0.0:443", "[::]:443"]'
    if redirect and not listen_tls:
        yield "redirect", "there is no HTTPS here to lead to", "give listen_tls, or leave it out"
