"""From a request's method and path to what is asked, by the Distribution API's own grammar.

A repository's name has slashes, and the words that end it (``blobs``, ``manifests``, ``tags``) may
be parts of it too, so that the path is read from its end.
"""

import re
from enum import Enum, auto
from typing import NamedTuple

from dit4c_p2p.messages.image_access import RepositoryVerb
from dit4c_p2p.oci.names import is_repository


class RegistryEndpoint(Enum):
    """What can be asked; the comments are the specification's names."""

    BASE = auto()  # end-1
    EXTENSIONS = auto()
    BLOB = auto()  # end-2, end-10
    UPLOADS = auto()  # end-4a, end-4b, end-11
    UPLOAD = auto()  # end-5, end-6, end-13
    MANIFEST = auto()  # end-3, end-7, end-9
    TAGS = auto()  # end-8a, end-8b
    REFERRERS = auto()  # end-12a, end-12b
    CHUNKS_MISSING = auto()
    CHUNKS_BUNDLE = auto()
    CHUNKS_FETCH = auto()
    CHUNKED_BLOB = auto()


class Asked(NamedTuple):
    """An endpoint, the repository, and the last part of the path: a digest, a tag or an id."""

    endpoint: RegistryEndpoint
    repository: str = ""
    last: str = ""


_TAILS = [
    (re.compile(r"(.+)/blobs/uploads/?"), RegistryEndpoint.UPLOADS),
    (re.compile(r"(.+)/blobs/uploads/([^/]+)"), RegistryEndpoint.UPLOAD),
    (re.compile(r"(.+)/_dit4c/chunks/missing"), RegistryEndpoint.CHUNKS_MISSING),
    (re.compile(r"(.+)/_dit4c/chunks/bundle"), RegistryEndpoint.CHUNKS_BUNDLE),
    (re.compile(r"(.+)/_dit4c/chunks/fetch"), RegistryEndpoint.CHUNKS_FETCH),
    (re.compile(r"(.+)/_dit4c/blobs/([^/]+)"), RegistryEndpoint.CHUNKED_BLOB),
    (re.compile(r"(.+)/blobs/([^/]+)"), RegistryEndpoint.BLOB),
    (re.compile(r"(.+)/manifests/([^/]+)"), RegistryEndpoint.MANIFEST),
    (re.compile(r"(.+)/tags/list"), RegistryEndpoint.TAGS),
    (re.compile(r"(.+)/referrers/([^/]+)"), RegistryEndpoint.REFERRERS),
]

_READS = {"GET": RepositoryVerb.PULL, "HEAD": RepositoryVerb.PULL}
_WRITES = {"POST": RepositoryVerb.PUSH}
VERBS: dict[RegistryEndpoint, dict[str, RepositoryVerb]] = {
    RegistryEndpoint.BLOB: {**_READS, "DELETE": RepositoryVerb.DELETE},
    RegistryEndpoint.UPLOADS: _WRITES,
    RegistryEndpoint.UPLOAD: {
        "GET": RepositoryVerb.PUSH,
        "PATCH": RepositoryVerb.PUSH,
        "PUT": RepositoryVerb.PUSH,
        "DELETE": RepositoryVerb.PUSH,
    },
    RegistryEndpoint.MANIFEST: {
        **_READS,
        "PUT": RepositoryVerb.PUSH,
        "DELETE": RepositoryVerb.DELETE,
    },
    RegistryEndpoint.TAGS: _READS,
    RegistryEndpoint.REFERRERS: _READS,
    RegistryEndpoint.CHUNKS_MISSING: _WRITES,
    RegistryEndpoint.CHUNKS_BUNDLE: _WRITES,
    RegistryEndpoint.CHUNKS_FETCH: {"POST": RepositoryVerb.PULL},
    RegistryEndpoint.CHUNKED_BLOB: {"GET": RepositoryVerb.PULL, "POST": RepositoryVerb.PUSH},
}


class InvalidRepository(Exception):
    """The path has the form of one, but its repository is no name of one."""


def read_path(path: str) -> Asked | None:
    """What a path below ``/v2`` asks for; None: nothing that there is.

    :param path: decoded, beginning with ``/v2``.
    :raises InvalidRepository: the repository's name is malformed.
    """
    if path in ("/v2", "/v2/"):
        return Asked(RegistryEndpoint.BASE)
    if path == "/v2/_oci/ext/discover":
        return Asked(RegistryEndpoint.EXTENSIONS)
    if not path.startswith("/v2/"):
        return None
    rest = path.removeprefix("/v2/")
    for pattern, endpoint in _TAILS:
        found = pattern.fullmatch(rest)
        if found is not None:
            if not is_repository(found[1]):
                raise InvalidRepository
            return Asked(endpoint, found[1], found[2] if pattern.groups > 1 else "")
    return None
