"""Leases: INV-L1 to L3 on the pure part."""

import pytest

from kubette.etcd.lessor import FOREVER, LeaseExistsError, LeaseNotFoundError, LeaseTtlTooLargeError, Lessor


def primary() -> Lessor:
    lessor = Lessor(min_ttl=2)
    lessor.promote(0.0, 0.0)
    return lessor


def test_a_lease_expires_after_its_ttl_and_not_before() -> None:
    lessor = primary()
    lessor.grant(1, 10, now=0.0)
    assert lessor.expired(9.99, 10) == []
    assert lessor.renew(1, 9.0) == 10
    assert lessor.expired(18.9, 10) == []
    assert lessor.expired(19.0, 10) == [1]


def test_only_the_primary_lets_leases_expire_and_a_new_one_extends_them() -> None:
    lessor = Lessor(min_ttl=2)
    lessor.grant(1, 10, now=0.0)
    assert lessor.expired(1e9, 10) == []
    lessor.promote(1000.0, extend_s=1.0)
    assert lessor.expired(1010.9, 10) == []
    assert lessor.expired(1011.0, 10) == [1]
    lessor.demote()
    assert lessor.leases[1].expiry == FOREVER


def test_a_short_ttl_is_raised_above_an_election() -> None:
    assert primary().grant(1, 1, 0.0).ttl == 2


def test_keys_follow_their_lease() -> None:
    lessor = primary()
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 10, 0.0)
    lessor.attach(b"b", 1)
    lessor.attach(b"a", 1)
    lessor.attach(b"b", 2)
    assert lessor.revoke(1) == [b"a"]
    assert lessor.lease_of(b"b") == 2
    lessor.attach(b"b", 0)
    assert lessor.revoke(2) == []


def test_errors() -> None:
    lessor = primary()
    lessor.grant(1, 10, 0.0)
    with pytest.raises(LeaseExistsError):
        lessor.grant(1, 10, 0.0)
    with pytest.raises(LeaseTtlTooLargeError):
        lessor.grant(2, 9_000_000_001, 0.0)
    for broken in (lambda: lessor.renew(9, 0.0), lambda: lessor.revoke(9), lambda: lessor.renew(1, 10.0)):
        with pytest.raises(LeaseNotFoundError):
            broken()
