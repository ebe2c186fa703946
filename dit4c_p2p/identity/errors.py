"""Errors raised when an identity is not accepted."""

from dit4c_p2p.errors import DitError


class IdentityError(DitError):
    """Base of this package's errors."""

    code = "identity"


class InvalidName(IdentityError):
    """Not a peer name or an id."""

    code = "invalid_name"


class InvalidKey(IdentityError):
    """Not an SSH public or private key of an accepted algorithm and size."""

    code = "invalid_key"


class InvalidSignature(IdentityError):
    """A signature does not verify, or is for another purpose."""

    code = "invalid_signature"


class InvalidDocument(IdentityError):
    """A registry document or event is malformed, expired, stale, or not signed by the portal."""

    code = "invalid_document"


class PortalUnreachable(IdentityError):
    """The portal did not answer and no signed copy is in force."""

    code = "portal_unreachable"


class InvalidToken(IdentityError):
    """A JWT is malformed, expired, for someone else, or not signed by a published key."""

    code = "invalid_token"


class WrongClock(InvalidToken):
    """A JWT signed by a published key is expired or not yet valid: one of the two clocks is off."""

    code = "clock"
