"""Each kind of value: what is read, what is refused and how, and what is written."""

import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.settings import values
from dit4c_p2p.settings.values import WrongValue


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (values.duration, "30 s", 30.0),
        (values.duration, "30s", 30.0),
        (values.duration, "1.5 min", 90.0),
        (values.duration, "0.25 s", 0.25),
        (values.duration, " 12 h ", 43200.0),
        (values.duration, "7 d", 604800.0),
        (values.size, "2 GiB", 2 * 1024**3),
        (values.size, "512MiB", 512 * 1024**2),
        (values.size, "1.5 GB", 1_500_000_000),
        (values.size, "100 kB", 100_000),
        (values.size, "0 B", 0),
        (values.address, "127.0.0.1:8080", ("127.0.0.1", 8080)),
        (values.address, "[::1]:8080", ("::1", 8080)),
        (values.address, "portal.example.org:443", ("portal.example.org", 443)),
        (values.origin, "https://portal.example.org", "https://portal.example.org"),
        (values.origin, "http://localhost:8080", "http://localhost:8080"),
        (values.user_url, "https://{id}.example.net/", "https://{id}.example.net/"),
        (values.user_url, "http://{id}.localhost:8081/", "http://{id}.localhost:8081/"),
        (values.network, "10.213.0.0/16", IPv4Network("10.213.0.0/16")),
        (values.path, "/var/lib/dit4c", Path("/var/lib/dit4c")),
        (values.number(0, 8), 2, 2.0),
        (values.list_of(values.peer_id), ["home", "lab-2"], ("home", "lab-2")),
        (values.digest, f"sha256:{'a' * 64}", f"sha256:{'a' * 64}"),
        (values.registry, "Registry.example.org:5000", "registry.example.org:5000"),
        (values.registry, "docker.io", "docker.io"),
        (
            values.image,
            f"r.example:5000/x@sha256:{'a' * 64}",
            f"r.example:5000/x@sha256:{'a' * 64}",
        ),
    ],
)
def test_what_is_read(kind, raw, value):
    assert kind.read(raw) == value


@pytest.mark.parametrize(
    ("kind", "raw", "says"),
    [
        (values.duration, 30, '30 has no unit. Write it as "30 s"'),
        (values.duration, "30", '"30" has no unit. Write it as "30 s"'),
        (values.duration, "30 GiB", '"GiB" is not a unit of a length of time. Units are'),
        (values.duration, "30 mins", "Did you mean min?"),
        (values.duration, "soon", '"soon" is not a length of time'),
        (values.duration, "-5 s", "is not a length of time"),
        (values.duration, "0 s", "would be too short"),
        (values.duration_up_to(60), "2 min", '"2 min" is too long. Write it as "1 min"'),
        (values.duration_up_to(60), "0 s", "would be too short"),
        (values.duration, True, "true is not a length of time"),
        (values.duration, "١ s", "is not a length of time"),
        (values.size, "2 Gib", "Did you mean GiB?"),
        (values.size, "2 s", '"s" is not a unit of a size'),
        (values.size, "much", '"much" is not a size'),
        (values.size, 2, '2 has no unit. Write it as "2 GiB"'),
        (values.address, "8080", "Write it as host:port"),
        (values.address, "host:99999", "Write it as host:port"),
        (values.address, 8080, '8080 is not a text. Write "8080"'),
        (values.origin, "https://portal.example.org/", "without a path or a closing slash"),
        (values.origin, "portal.example.org", "is not a portal's URL"),
        (values.origin, "http://portal.example.org", "would carry logins"),
        (values.origin, "https://[", "is not a portal's URL"),
        (values.user_url, "https://example.net/{id}/", "is not the URL of instances"),
        (values.user_url, "https://{id}.example.net", "is not the URL of instances"),
        (values.user_url, "https://{id}.{id}.net/", "is not the URL of instances"),
        (values.user_url, "{id}.example.net/", "is not the URL of instances"),
        (values.user_url, "http://{id}.example.net/", "unprotected"),
        (values.peer_id, "Home", "'Home' is not an id"),
        (values.public_key, "ssh-rsa nonsense", "'dit4c portal key' prints it"),
        (values.public_key, "", "'dit4c portal key' prints it"),
        (values.network, "10.213.0.1/16", "is not an IPv4 network"),
        (values.network, "10.213.0.0/30", "too small"),
        (values.ipv4, "dns.example.org", "is not an IPv4 address"),
        (values.digest, "jupyterlab:latest", "is not an image's digest"),
        (values.registry, "https://registry.example.org", "is not a registry"),
        (values.registry, "registry.example.org/lab", "is not a registry"),
        (values.image, "registry.example.org/tool:latest", "is not an image by digest"),
        (values.image, f"registry.example.org/tool:1@sha256:{'a' * 64}", "without a tag"),
        (values.image, f"{'a' * 400}@sha256:{'a' * 64}", "is not an image by digest"),
        (values.path, "data", "Begin it with /"),
        (values.flag, "true", "Write it without quotes"),
        (values.integer(1, 9), 10, "10 is out of range. Give 1 to 9"),
        (values.integer(1, 9), True, "is not a whole number"),
        (values.integer(1, 9), "5", "is not a whole number"),
        (values.number(1, 9), "5", "is not a number"),
        (values.choice("info", "error"), "inof", "Did you mean info?"),
        (values.list_of(values.peer_id), "home", '"home" is not a list. Write ["home"]'),
        (values.list_of(values.peer_id), ["home", 5], "5 is not a text"),
        (values.text, "  ", "is not one line of text"),
        (values.text, "a\nb", "is not one line of text"),
        (values.text, {}, "a table is not a text"),
    ],
)
def test_what_is_refused_and_what_to_do(kind, raw, says):
    with pytest.raises(WrongValue) as caught:
        kind.read(raw)
    assert says in caught.value.one_line()
    assert "\n" not in caught.value.one_line()


KINDS = [values.text, values.flag, values.path, values.duration, values.size, values.address,
         values.near, values.origin, values.user_url, values.peer_id, values.public_key,
         values.network, values.ipv4, values.digest, values.image, values.registry,
         values.integer(0, 9), values.number(0, 9),
         values.choice("a"), values.list_of(values.duration)]  # fmt: skip

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(anything)
def test_whatever_is_written_there_is_read_or_refused_in_one_line(raw):
    for kind in KINDS:
        try:
            kind.read(raw)
        except WrongValue as error:
            assert len(error.one_line().splitlines()) == 1, error.one_line()


@given(st.sampled_from(["s", "min", "h", "d"]), st.decimals("0.001", 10_000, places=3))
def test_a_length_of_time_is_written_as_it_is_read(unit, number):
    seconds = values.duration.read(f"{number} {unit}")
    written = tomllib.loads(f"x = {values.duration.write(seconds)}")["x"]
    assert values.duration.read(written) == pytest.approx(seconds)
