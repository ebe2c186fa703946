"""Who may do what at an image server: its question to the portal, and the tokens of its callers.

    GET /services/image-server/auth-http-request/{verb}/{repository}
    GET /services/image-server/auth-http-request/login

The caller's ``Authorization`` is passed on as it came. Beside it the image server proves itself by
:data:`SERVER_TOKEN_HEADER`: a JWT signed by its key, whose audience is the portal's URL; a stock
registry behind a proxy sends its static service token there. The portal answers

    204   the caller may
    401   no credentials, or wrong ones
    403   known, and may not (or may not yet: helpers ask again for 60 s)

``login`` asks only whether the credentials are good for anything.

A peer's credentials are a JWT signed by its SSH key, whose audience is the image server's peer name
(:func:`image_token_claims`), as a bearer token or as the password of HTTP Basic with the peer's
name as user. A person's are a user name and a secret that the portal gave for one repository.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

AUTH_PATH = "/services/image-server/auth-http-request"
SERVER_TOKEN_HEADER = "X-Dit4c-Image-Server"


class RepositoryVerb(StrEnum):
    """What a request does to a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


def image_token_claims(
    repository: str, verbs: Iterable[RepositoryVerb], sources: Iterable[str] = ()
) -> dict[str, Any]:
    """What a token for an image server says besides issuer, audience and times.

    :param repository: the one repository that the token is for.
    :param sources: repositories that may be pulled from as well, so that their blobs can be
        mounted and their chunks need not be sent.
    """
    return {
        "repository": repository,
        "verbs": sorted({str(verb) for verb in verbs}),
        "sources": sorted(set(sources)),
    }
