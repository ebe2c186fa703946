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
    close_word,
    flag,
    integer,
    line,
    list_of,
    number,
    quoted_value,
    shown_value,
    string_value,
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


def _read_amount_value(raw: object, units: Mapping[str, float], noun: str, example: str) -> float:
    """A number with one of ``units``, which say how many of the smallest they are."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        raise WrongValue(f"{raw:g} has no unit", hint=f'write it as "{raw:g} {example}"')
    match = _AMOUNT.fullmatch(raw.strip()) if isinstance(raw, str) else None
    if match is None:
        raise WrongValue(f"{shown_value(raw)} is not {noun}", hint=f'write it as "2 {example}"')
    digits, unit = match.groups()
    if not unit:
        raise WrongValue(f'"{digits}" has no unit', hint=f'write it as "{digits} {example}"')
    if unit not in units:
        instead = close_word(unit, list(units)) or f"units are {', '.join(units)}"
        raise WrongValue(f'"{unit}" is not a unit of {noun}', hint=instead)
    return float(digits) * units[unit]


def _read_duration_value(raw: object) -> float:
    seconds = _read_amount_value(raw, _SECONDS, "a length of time", "s")
    if not seconds:
        raise WrongValue("no time at all would be too short", hint='write it as "10 s"')
    return seconds


def duration_up_to(most_s: float) -> Value[float]:
    """A length of time that is no longer than ``most_s`` seconds."""

    def read_value(raw: object) -> float:
        seconds = _read_duration_value(raw)
        if seconds > most_s:
            longest = _write_amount_value(most_s, _SECONDS)
            raise WrongValue(f"{shown_value(raw)} is too long", hint=f"write it as {longest}")
        return seconds

    return Value("", read_value, lambda v: _write_amount_value(v, _SECONDS))


def _read_size_value(raw: object) -> int:
    return int(_read_amount_value(raw, _BYTES, "a size", "GiB"))


def _write_amount_value(value: float, units: Mapping[str, float]) -> str:
    """With the largest unit that leaves a whole number, else with the smallest."""
    unit = max(
        (unit for unit, factor in units.items() if value >= factor and not value % factor),
        key=lambda unit: units[unit],
        default=min(units, key=lambda unit: units[unit]),
    )
    return f'"{value / units[unit]:.15g} {unit}"'


def _write_size_value(value: int) -> str:
    binary = {unit: factor for unit, factor in _BYTES.items() if unit == "B" or "i" in unit}
    return _write_amount_value(value, binary)


def _read_path_value(raw: object) -> Path:
    path = Path(line(raw))
    if not path.is_absolute():
        raise WrongValue(f"{shown_value(raw)} is not a whole path", hint="begin it with /")
    return path


def _read_database_value(raw: object) -> str:
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


def _read_address_value(raw: object) -> Address:
    try:
        host, port = split_address(string_value(raw))
    except ConfigError as error:
        raise WrongValue(str(error), hint=error.hint) from None
    return host, port


def _write_address_value(value: Address) -> str:
    host, port = value
    return quoted_value(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _read_near_address_value(raw: object) -> str:
    """An address that is passed on to others as text."""
    _read_address_value(raw)
    return string_value(raw)


def _read_origin_value(raw: object) -> str:
    text = string_value(raw)
    url = _parsed_url_value(text)
    if url.scheme not in ("http", "https") or not url.host or str(url.origin()) != text:
        raise WrongValue(
            f"{shown_value(raw)} is not a portal's URL",
            hint="write it as https://portal.example.org, without a path or a closing slash",
        )
    if url.scheme == "http" and not is_loopback_host(url.host):
        raise WrongValue(
            f"{text} would carry logins over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return text


def _read_sftp_url_value(raw: object) -> str:
    text = string_value(raw)
    url = _parsed_url_value(text)
    plain = not (url.user or url.password or url.query_string or url.fragment)
    if url.scheme != "sftp" or not url.host or url.path not in ("", "/") or not plain:
        raise WrongValue(
            f"{shown_value(raw)} is not the URL of a file server",
            hint="write it as sftp://files.example.org:2222, without a path",
        )
    return text.removesuffix("/")


def _read_service_url_value(raw: object) -> str:
    text = string_value(raw)
    url = _parsed_url_value(text)
    if (
        url.scheme not in ("http", "https")
        or not url.host
        or text.endswith("/")
        or url.query_string
        or url.fragment
        or url.user
    ):
        raise WrongValue(
            f"{shown_value(raw)} is not a server's URL",
            hint="write it as https://images.example.org, without a closing slash",
        )
    if url.scheme == "http" and not is_loopback_host(url.host):
        raise WrongValue(
            f"{text} would carry secrets over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return text


def _read_user_url_value(raw: object) -> str:
    text = string_value(raw)
    url = _parsed_url_value(text.replace("{id}", "id", 1))
    host = url.host or ""
    if (
        url.scheme not in ("http", "https")
        or not host.startswith("id.")
        or "{" in str(url)
        or str(url) != f"{url.origin() if url.is_absolute() else ''}/"
    ):
        raise WrongValue(
            f"{shown_value(raw)} is not the URL of instances",
            hint="write it as https://{id}.example.net/",
        )
    if url.scheme == "http" and not is_loopback_host(host):
        raise WrongValue(
            f"{text} would carry people's work over the network unprotected",
            hint="give an https:// URL; plain HTTP is for this machine only",
        )
    return text


def _parsed_url_value(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        return URL()


def _read_id_value(raw: object) -> str:
    try:
        return PeerName(Kind.NODE, string_value(raw)).id
    except InvalidName as error:
        raise WrongValue(str(error), hint=error.hint) from None


def _read_public_key_value(raw: object) -> str:
    try:
        parse_public(string_value(raw))
    except InvalidKey as error:
        raise WrongValue(str(error), hint="'dit4c portal key' prints it") from None
    return string_value(raw)


def _read_network_value(raw: object) -> IPv4Network:
    try:
        network = IPv4Network(string_value(raw))
    except ValueError:
        raise WrongValue(
            f"{shown_value(raw)} is not an IPv4 network", hint='write it as "10.213.0.0/16"'
        ) from None
    if network.prefixlen > 28:
        raise WrongValue(f"{network} is too small for one pod", hint="give a /28 or larger")
    return network


def _read_ipv4_network_value(raw: object) -> IPv4Network:
    try:
        return IPv4Network(string_value(raw))
    except ValueError:
        raise WrongValue(
            f"{shown_value(raw)} is neither an IPv4 address nor an IPv4 network",
            hint='write it as "198.51.100.7" or "198.51.100.0/24"',
        ) from None


def _read_any_network_value(raw: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(string_value(raw))
    except ValueError:
        raise WrongValue(
            f"{shown_value(raw)} is neither an address nor a network",
            hint='write it as "192.0.2.80" or "2001:db8::/32"',
        ) from None


def _write_network_value(value: IPv4Network | IPv6Network) -> str:
    single = value.num_addresses == 1
    return quoted_value(value.network_address if single else value)


def _read_ipv4_value(raw: object) -> str:
    try:
        return str(IPv4Address(string_value(raw)))
    except ValueError:
        raise WrongValue(
            f"{shown_value(raw)} is not an IPv4 address", hint='write it as "192.0.2.53"'
        ) from None


def _read_image_value(raw: object) -> str:
    text = string_value(raw)
    if split_image(text) is None:
        raise WrongValue(
            f"{shown_value(raw)} is not an image by digest",
            hint="write sha256: and 64 hexadecimal digits, or with a registry to fetch it from: "
            "registry.example.org/name@sha256:…, without a tag",
        )
    return text


def _read_digest_value(raw: object) -> str:
    if not is_digest(string_value(raw)):
        raise WrongValue(
            f"{shown_value(raw)} is not an image's digest",
            hint="write sha256: and 64 hexadecimal digits; 'dit4c images build' prints them",
        )
    return string_value(raw)


def _read_sha256_value(raw: object) -> str:
    text = string_value(raw).lower()
    if not is_digest(f"sha256:{text}"):
        raise WrongValue("this is not a SHA-256", hint="write its 64 hexadecimal digits")
    return text


def _read_registry_value(raw: object) -> str:
    if not is_registry(string_value(raw)):
        raise WrongValue(
            f"{shown_value(raw)} is not a registry",
            hint="write its host, with its port if it has one: registry.example.org:5000; Docker "
            "Hub is docker.io",
        )
    return string_value(raw).lower()


path: Value[Path] = Value("", _read_path_value, quoted_value)
database: Value[str] = Value(
    "a path, or postgres://USER@HOST/NAME", _read_database_value, quoted_value
)
whole_seconds: Value[int] = Value(
    "",
    lambda raw: max(1, round(_read_duration_value(raw))),
    lambda v: _write_amount_value(v, _SECONDS),
)
duration: Value[float] = Value("", _read_duration_value, lambda v: _write_amount_value(v, _SECONDS))
size: Value[int] = Value("", _read_size_value, _write_size_value)
address: Value[Address] = Value("", _read_address_value, _write_address_value)
near: Value[str] = Value("", _read_near_address_value, quoted_value)
origin: Value[str] = Value("", _read_origin_value, quoted_value)
sftp_url: Value[str] = Value("", _read_sftp_url_value, quoted_value)
service_url: Value[str] = Value("", _read_service_url_value, quoted_value)
user_url: Value[str] = Value("", _read_user_url_value, quoted_value)
peer_id: Value[str] = Value("", _read_id_value, quoted_value)
public_key: Value[str] = Value("", _read_public_key_value, quoted_value)
network: Value[IPv4Network] = Value("", _read_network_value, quoted_value)
ipv4_network: Value[IPv4Network] = Value("", _read_ipv4_network_value, _write_network_value)
any_network: Value[IPv4Network | IPv6Network] = Value(
    "", _read_any_network_value, _write_network_value
)
ipv4: Value[str] = Value("", _read_ipv4_value, quoted_value)
digest: Value[str] = Value("", _read_digest_value, quoted_value)
image: Value[str] = Value("", _read_image_value, quoted_value)
registry: Value[str] = Value("", _read_registry_value, quoted_value)
sha256: Value[str] = Value("", _read_sha256_value, quoted_value)

AnyValue = Value[Any]
