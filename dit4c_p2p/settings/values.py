"""Kinds of values of settings, each with its text form.

A :class:`Value` reads a value of TOML or of the environment and writes it for the example files. A
duration, a size or an address is a text that includes its unit::

    duration.read("1.5 min")      90.0, in seconds
    size.read("2 GiB")            2147483648, in bytes
    address.read("[::1]:8080")    ("::1", 8080)
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.errors import InvalidKey, InvalidName
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.portal_client import is_loopback_host, split_address
from dit4c_p2p.oci.reference import is_digest, is_registry, split_image
from dit4c_p2p.settings.value import (
    Value,
    WrongValue,
    choice,
    close,
    flag,
    integer,
    line,
    list_of,
    number,
    quoted,
    shown,
    string,
    text,
)

__all__ = [
    "Address",
    "Value",
    "WrongValue",
    "choice",
    "flag",
    "integer",
    "list_of",
    "number",
    "text",
]

Address = tuple[str, int]

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
}


def _amount(raw: object, units: Mapping[str, float], noun: str, example: str) -> float:
    """A number with one of ``units``, which say how many of the smallest they are."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        raise WrongValue(f"{raw:g} has no unit", hint=f'write it as "{raw:g} {example}"')
    match = _AMOUNT.fullmatch(raw.strip()) if isinstance(raw, str) else None
    if match is None:
        raise WrongValue(f"{shown(raw)} is not {noun}", hint=f'write it as "2 {example}"')
    digits, unit = match.groups()
    if not unit:
        raise WrongValue(f'"{digits}" has no unit', hint=f'write it as "{digits} {example}"')
    if unit not in units:
        instead = close(unit, list(units)) or f"units are {', '.join(units)}"
        raise WrongValue(f'"{unit}" is not a unit of {noun}', hint=instead)
    return float(digits) * units[unit]


def _duration(raw: object) -> float:
    seconds = _amount(raw, _SECONDS, "a length of time", "s")
    if not seconds:
        raise WrongValue("no time at all would be too short", hint='write it as "10 s"')
    return seconds


def _size(raw: object) -> int:
    return int(_amount(raw, _BYTES, "a size", "GiB"))


def _write_amount(value: float, units: Mapping[str, float]) -> str:
    """With the largest unit that leaves a whole number, else with the smallest."""
    unit = max(
        (unit for unit, factor in units.items() if value >= factor and not value % factor),
        key=lambda unit: units[unit],
        default=min(units, key=lambda unit: units[unit]),
    )
    return f'"{value / units[unit]:.15g} {unit}"'


def _write_size(value: int) -> str:
    binary = {unit: factor for unit, factor in _BYTES.items() if unit == "B" or "i" in unit}
    return _write_amount(value, binary)


def _path(raw: object) -> Path:
    path = Path(line(raw))
    if not path.is_absolute():
        raise WrongValue(f"{shown(raw)} is not a whole path", hint="begin it with /")
    return path


def _database(raw: object) -> str:
    """A path or a URL as :class:`~dit4c_p2p.database.DatabaseSpec` takes it; never shown: it may
    hold a password."""
    from dit4c_p2p.database.spec import DatabaseSpec

    text = line(raw)
    try:
        DatabaseSpec("component", text)
    except ConfigError as error:
        raise WrongValue(str(error), hint=error.hint) from None
    if "://" not in text and not Path(text).is_absolute():
        raise WrongValue("this is not a whole path", hint="begin it with /, or with postgres://")
    return text


def _address(raw: object) -> Address:
    try:
        host, port = split_address(string(raw))
    except ConfigError as error:
        raise WrongValue(str(error), hint=error.hint) from None
    return host, port


def _write_address(value: Address) -> str:
    host, port = value
    return quoted(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _near(raw: object) -> str:
    """An address that is passed on to others as text."""
    _address(raw)
    return string(raw)


def _origin(raw: object) -> str:
    text = string(raw)
    url = _parsed(text)
    if url.scheme not in ("http", "https") or not url.host or str(url.origin()) != text:
        raise WrongValue(
            f"{shown(raw)} is not a portal's URL",
            hint="write it as https://portal.example.org, without a path or a closing slash",
        )
    if url.scheme == "http" and not is_loopback_host(url.host):
        raise WrongValue(
            f"{text} would carry logins over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return text


def _sftp_url(raw: object) -> str:
    text = string(raw)
    url = _parsed(text)
    plain = not (url.user or url.password or url.query_string or url.fragment)
    if url.scheme != "sftp" or not url.host or url.path not in ("", "/") or not plain:
        raise WrongValue(
            f"{shown(raw)} is not the URL of a file server",
            hint="write it as sftp://files.example.org:2222, without a path",
        )
    return text.removesuffix("/")


def _service_url(raw: object) -> str:
    text = string(raw)
    url = _parsed(text)
    if (
        url.scheme not in ("http", "https")
        or not url.host
        or text.endswith("/")
        or url.query_string
        or url.fragment
        or url.user
    ):
        raise WrongValue(
            f"{shown(raw)} is not a server's URL",
            hint="write it as https://images.example.org, without a closing slash",
        )
    if url.scheme == "http" and not is_loopback_host(url.host):
        raise WrongValue(
            f"{text} would carry secrets over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return text


def _user_url(raw: object) -> str:
    text = string(raw)
    url = _parsed(text.replace("{id}", "id", 1))
    host = url.host or ""
    if (
        url.scheme not in ("http", "https")
        or not host.startswith("id.")
        or "{" in str(url)
        or str(url) != f"{url.origin() if url.is_absolute() else ''}/"
    ):
        raise WrongValue(
            f"{shown(raw)} is not the URL of instances",
            hint="write it as https://{id}.example.net/",
        )
    if url.scheme == "http" and not is_loopback_host(host):
        raise WrongValue(
            f"{text} would carry people's work over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return text


def _parsed(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        return URL()


def _id(raw: object) -> str:
    try:
        return PeerName(Kind.NODE, string(raw)).id
    except InvalidName as error:
        raise WrongValue(str(error), hint=error.hint) from None


def _public_key(raw: object) -> str:
    try:
        parse_public(string(raw))
    except InvalidKey as error:
        raise WrongValue(str(error), hint="'dit4c portal key' prints it") from None
    return string(raw)


def _network(raw: object) -> IPv4Network:
    try:
        network = IPv4Network(string(raw))
    except ValueError:
        raise WrongValue(
            f"{shown(raw)} is not an IPv4 network", hint='write it as "10.213.0.0/16"'
        ) from None
    if network.prefixlen > 28:
        raise WrongValue(f"{network} is too small for one pod", hint="give a /28 or larger")
    return network


def _ipv4_network(raw: object) -> IPv4Network:
    try:
        return IPv4Network(string(raw))
    except ValueError:
        raise WrongValue(
            f"{shown(raw)} is neither an IPv4 address nor an IPv4 network",
            hint='write it as "198.51.100.7" or "198.51.100.0/24"',
        ) from None


def _any_network(raw: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(string(raw))
    except ValueError:
        raise WrongValue(
            f"{shown(raw)} is neither an address nor a network",
            hint='write it as "192.0.2.80" or "2001:db8::/32"',
        ) from None


def _write_network(value: IPv4Network | IPv6Network) -> str:
    single = value.num_addresses == 1
    return quoted(value.network_address if single else value)


def _ipv4(raw: object) -> str:
    try:
        return str(IPv4Address(string(raw)))
    except ValueError:
        raise WrongValue(
            f"{shown(raw)} is not an IPv4 address", hint='write it as "192.0.2.53"'
        ) from None


def _image(raw: object) -> str:
    text = string(raw)
    if split_image(text) is None:
        raise WrongValue(
            f"{shown(raw)} is not an image by digest",
            hint="write sha256: and 64 hexadecimal digits, or with a registry to fetch it from: "
            "registry.example.org/name@sha256:…, without a tag",
        )
    return text


def _digest(raw: object) -> str:
    if not is_digest(string(raw)):
        raise WrongValue(
            f"{shown(raw)} is not an image's digest",
            hint="write sha256: and 64 hexadecimal digits; 'dit4c images build' prints them",
        )
    return string(raw)


def _sha256(raw: object) -> str:
    text = string(raw).lower()
    if not is_digest(f"sha256:{text}"):
        raise WrongValue("this is not a SHA-256", hint="write its 64 hexadecimal digits")
    return text


def _registry(raw: object) -> str:
    if not is_registry(string(raw)):
        raise WrongValue(
            f"{shown(raw)} is not a registry",
            hint="write its host, with its port if it has one: registry.example.org:5000; Docker "
            "Hub is docker.io",
        )
    return string(raw).lower()


path: Value[Path] = Value("", _path, quoted)
database: Value[str] = Value("a path, or postgres://USER@HOST/NAME", _database, quoted)
whole_seconds: Value[int] = Value(
    "", lambda raw: max(1, round(_duration(raw))), lambda v: _write_amount(v, _SECONDS)
)
duration: Value[float] = Value("", _duration, lambda v: _write_amount(v, _SECONDS))
size: Value[int] = Value("", _size, _write_size)
address: Value[Address] = Value("", _address, _write_address)
near: Value[str] = Value("", _near, quoted)
origin: Value[str] = Value("", _origin, quoted)
sftp_url: Value[str] = Value("", _sftp_url, quoted)
service_url: Value[str] = Value("", _service_url, quoted)
user_url: Value[str] = Value("", _user_url, quoted)
peer_id: Value[str] = Value("", _id, quoted)
public_key: Value[str] = Value("", _public_key, quoted)
network: Value[IPv4Network] = Value("", _network, quoted)
ipv4_network: Value[IPv4Network] = Value("", _ipv4_network, _write_network)
any_network: Value[IPv4Network | IPv6Network] = Value("", _any_network, _write_network)
ipv4: Value[str] = Value("", _ipv4, quoted)
digest: Value[str] = Value("", _digest, quoted)
image: Value[str] = Value("", _image, quoted)
registry: Value[str] = Value("", _registry, quoted)
sha256: Value[str] = Value("", _sha256, quoted)

AnyValue = Value[Any]
