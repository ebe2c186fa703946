"""Errors of the portal's requests, translated to HTTP in ``http.responses``.

PortalError                status, code, sentence, hint
├── BadRequest             400, with the name of the field
├── Unauthorized           401
├── Forbidden              403
│   ├── AccountClosed      403, disabled or past its end
│   └── InsufficientScope  403, of a token
├── NotFound               404, also for what is somebody else's
├── TooSlow                408
├── Conflict               409
├── UnsupportedMedia       415
├── Misdirected            421
├── TooMany                429
├── Unavailable            503
└── TookTooLong            504
"""

from dit4c_p2p.errors import DitError


class PortalError(DitError):
    """Base; ``status`` is the HTTP status, ``title`` the same for every error of the class.

    ``field`` names the field of a form or a body that it is about, if it is about one.
    """

    code = "portal"
    status = 500
    title = "Something went wrong"
    field = ""


class BadRequest(PortalError):
    """The request is malformed."""

    code = "bad_request"
    status = 400
    title = "The request can't be used"

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class Unauthorized(PortalError):
    """Nobody is logged in, or the token is not accepted. ``challenge`` says how to (RFC 9110
    section 11.6.1).
    """

    code = "unauthorized"
    challenge = 'Bearer realm="dit4c"'
    status = 401
    title = "Not logged in"


class Forbidden(PortalError):
    """The caller may not do this."""

    code = "forbidden"
    status = 403
    title = "Not allowed"


class InsufficientScope(Forbidden):
    """The token is not good for this (RFC 6750 section 3.1)."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"the token needs the scope {scope}",
            hint="make one with it on your account page",
        )
        self.scope = scope


class AccountClosed(Forbidden):
    """The caller is authenticated, but the account was disabled or has ended."""

    code = "account_closed"
    title = "This account is closed"


class NotFound(PortalError):
    """The object does not exist, or belongs to somebody else."""

    code = "not_found"
    status = 404
    title = "Not found"


class NoSuchInstance(NotFound):
    """Which of the two it is does not show; who was sent a colleague's address learns why."""

    def __init__(self) -> None:
        super().__init__(
            "there is no such instance", hint="only whoever started an instance can see it"
        )


class TooSlow(PortalError):
    """The body did not arrive in time (RFC 9110 section 15.5.9)."""

    code = "too_slow"
    status = 408
    title = "The request took too long"


class Conflict(PortalError):
    """It can't be done in the present state."""

    code = "conflict"
    status = 409
    title = "Not possible now"

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.field = field


class UnsupportedMedia(PortalError):
    """The body has an unsupported media type."""

    code = "unsupported_media_type"
    status = 415
    title = "The body is of another type"


class Misdirected(PortalError):
    """The request names a host that is not the portal's (RFC 9110 section 15.5.20)."""

    code = "misdirected"
    status = 421
    title = "Not this server"


class TooMany(PortalError):
    """A limit is reached."""

    code = "too_many"
    status = 429
    title = "Too many at once"


class Unavailable(PortalError):
    """Another part of the system can't be reached right now."""

    code = "unavailable"
    status = 503
    title = "Not reachable right now"


class TookTooLong(PortalError):
    """Another part of the system did not answer in time."""

    code = "took_too_long"
    status = 504
    title = "No answer in time"
