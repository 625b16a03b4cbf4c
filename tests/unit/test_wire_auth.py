"""hardwire.wire.auth against the standard library and RFC 4231."""

import hmac

from hardwire.wire import auth


def test_hmac_is_that_of_rfc_4231():
    for key, data in (
        (b"\x0b" * 20, b"Hi There"),
        (b"Jefe", b"what do ya want for nothing?"),
        (b"\xaa" * 131, b"x"),
    ):
        assert auth.hmac(key, data) == hmac.digest(key, data, "sha256")
    assert auth.hmac(b"\x0b" * 20, b"Hi There").hex().startswith("b0344c61d8db38535ca8afceaf0bf12b")


def test_same():
    assert auth.same(b"", b"")
    assert auth.same(b"abc", memoryview(b"abc"))
    assert not auth.same(b"abc", b"xyz")
    assert not auth.same(b"\0bc", b"abc")
