"""Who may come without an invitation."""

import pytest

from dit4c_p2p.portal.login.config import LoginConfig, SignupRule
from dit4c_p2p.portal.login.identity import Identity
from dit4c_p2p.portal.login.signup import SignupAdmission, signup_admission

UNI, GITHUB = SignupRule("uni"), SignupRule("github")
DOMAIN = SignupRule("uni", "domain", "Example.org")
STAFF = SignupRule("uni", "group", "staff")
MEMBER = SignupRule("uni", "affiliation", "member", group="members")


def somebody(**more) -> Identity:
    return Identity("uni", "s-1", **more)


@pytest.mark.parametrize(
    ("rule", "identity", "comes"),
    [
        (UNI, somebody(), True),
        (GITHUB, somebody(), False),
        (DOMAIN, somebody(domains=frozenset({"example.org"})), True),
        (DOMAIN, somebody(email="ada@example.org"), False),
        (DOMAIN, somebody(domains=frozenset({"evil-example.org"})), False),
        (DOMAIN, somebody(claims={"domain": "Example.org"}), False),
        (STAFF, somebody(claims={"groups": ["guests", "staff"]}), True),
        (STAFF, somebody(claims={"groups": ["staffing"]}), False),
        (STAFF, somebody(claims={"groups": "staff"}), True),
        (STAFF, somebody(claims={"groups": {"staff": True}}), False),
        (STAFF, somebody(claims={"groups": None}), False),
        (STAFF, somebody(claims={"group": "staff"}), False),
        (STAFF, somebody(), False),
        (MEMBER, somebody(claims={"affiliation": "member"}), True),
        (MEMBER, somebody(claims={"affiliation": "membership"}), False),
        (MEMBER, somebody(claims={"affiliation": 7}), False),
    ],
)
def test_a_rule_lets_in_whom_it_names(rule, identity, comes):
    listed = LoginConfig(signup="listed", rules=(rule,))
    assert (signup_admission(identity, listed) is not None) == comes
    assert signup_admission(identity, LoginConfig(rules=(rule,))) is None, "closed"


def test_the_groups_of_all_rules_that_are_met_count_once():
    rules = (UNI, MEMBER, SignupRule("uni", group="all"), SignupRule("uni", group="members"))
    identity = somebody(claims={"affiliation": "member"})
    found = signup_admission(identity, LoginConfig(signup="listed", rules=rules))
    assert found == SignupAdmission(groups=("members", "all"))


def test_a_named_identity_is_an_admins_also_where_signup_is_closed():
    config = LoginConfig(admins=frozenset({("uni", "s-1")}))
    assert signup_admission(somebody(), config) == SignupAdmission(is_admin=True)
    assert signup_admission(Identity("github", "s-1"), config) is None
    assert signup_admission(Identity("uni", "s-2", email="s-1"), config) is None
