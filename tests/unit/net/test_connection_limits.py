"""Places for strangers."""

from dit4c_p2p.net.connection_limits import PerAddressLimiter, rate_limit_key


def test_one_address_has_its_share_and_no_more():
    shares = PerAddressLimiter(4, 2)
    assert [shares.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert shares.take("192.0.2.2") and shares.take("192.0.2.3")
    assert not shares.take("192.0.2.4"), "there are four in all"
    shares.give_back("192.0.2.1")
    assert shares.take("192.0.2.4")
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"):
        shares.give_back(address)
    assert shares.taken == 0
    assert not shares._by_site


def test_hold_gives_back_what_it_took():
    shares = PerAddressLimiter(1, 1)
    with shares.hold("192.0.2.1") as one, shares.hold("192.0.2.2") as other:
        assert (one, other) == (True, False)
    assert shares.taken == 0


def test_a_site_of_ipv6_is_one_address():
    assert rate_limit_key("2001:db8::1") == rate_limit_key("2001:db8::ffff:1:2:3")
    assert rate_limit_key("2001:db8::1") != rate_limit_key("2001:db8:0:1::1")
    assert rate_limit_key("::ffff:192.0.2.1") == rate_limit_key("192.0.2.1") == "192.0.2.1"
    assert rate_limit_key(None) == rate_limit_key("") == rate_limit_key("not: one") == ""
