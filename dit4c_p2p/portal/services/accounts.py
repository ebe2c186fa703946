"""Login links and API tokens: made or ended, with their line in the audit log.

The portal, its API and pages, and commands on the portal's machine call these.
"""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.accounts import api_tokens, people
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.models import ApiToken
from dit4c_p2p.portal.opaque_tokens import public_id


async def create_login_link(
    audit: Audit, person: str, *, lifetime_s: float, now: float, by: str = "", who: str = ""
) -> str:
    """Create a one-time link, ``/login/<token>``; return its token.

    :param by: the id of the person who makes it; empty for a command.
    :param who: whose doing it is, for the audit log; empty for the request's caller.
    :raises NotFound: no such person.
    :raises Conflict: the account is not in force.
    :raises NotAudited: the audit log can't be written; nothing is made.
    """
    async with in_transaction("portal"):
        token = await people.create_login_link(person, lifetime_s=lifetime_s, now=now, made_by=by)
        await audit.record_required("login_link.create", who=who, about=person)
    return token


async def create_api_token(
    audit: Audit,
    person: str,
    *,
    label: str,
    scopes: frozenset[str],
    days: float | None,
    now: float,
    replace: bool = False,
    who: str = "",
    how: str = "",
) -> tuple[ApiToken, str]:
    """Create a token; return it with its text; see :func:`api_tokens.create_token` for the rest.

    :param who: whose doing it is, for the audit log; empty for the request's caller.
    :param how: said in the audit log as well.
    :raises NotAudited: the audit log can't be written; nothing is made.
    """
    async with in_transaction("portal"):
        made, text = await api_tokens.create_token(
            person, label=label, scopes=scopes, days=days, now=now, replace=replace
        )
        about = f"{person} token:{public_id(made.digest)} scopes {made.scopes}{how}"
        await audit.record_required("token.create", who=who, about=about)
    return made, text


async def end_api_token(
    audit: Audit, person: str, token: str, *, current: str = "", who: str = ""
) -> None:
    """End a token by its id or its label; see :func:`api_tokens.revoke_token`."""
    await api_tokens.revoke_token(person, token, current=current)
    await audit.record_best_effort("token.revoke", who=who, about=f"{person} {token[:40]}")
