"""Who may come without an invitation. Pure."""

from dataclasses import dataclass

from dit4c_p2p.portal.login.config import LoginConfig, SignupRule
from dit4c_p2p.portal.login.identity import Identity


@dataclass(frozen=True)
class SignupAdmission:
    """Somebody who is nobody's account yet may have one."""

    is_admin: bool = False
    groups: tuple[str, ...] = ()


def is_named_admin(identity: Identity, config: LoginConfig) -> bool:
    """Whether the configuration names this identity as an admin's."""
    return (identity.provider, identity.subject) in config.admins


def signup_admission(identity: Identity, config: LoginConfig) -> SignupAdmission | None:
    """Whether somebody may come without an invitation, and as what; None if not."""
    is_admin = is_named_admin(identity, config)
    met = [
        rule
        for rule in config.rules
        if config.signup == "listed" and _meets_signup_rule(identity, rule)
    ]
    if not is_admin and not met:
        return None
    groups = dict.fromkeys(rule.group for rule in met if rule.group)
    return SignupAdmission(is_admin=is_admin, groups=tuple(groups))


def _meets_signup_rule(identity: Identity, rule: SignupRule) -> bool:
    if rule.provider != identity.provider:
        return False
    if not rule.claim:
        return True
    if rule.claim == "domain":
        return rule.value.lower() in identity.domains
    said = identity.claims.get("groups" if rule.claim == "group" else rule.claim)
    if isinstance(said, list):
        return rule.value in said
    return isinstance(said, str) and said == rule.value
