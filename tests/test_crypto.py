import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

import crypto
from crypto import CryptoError, Sealer

A_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
A_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
A_TIME = 1614265330
A_BODY = b'{"test": 2432232314}'
A_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
B_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
B_ID = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"
B_TIME = 1649367553
B_BODY = b'{"email":"test@example.com","username":"test_user"}'
B_SIGNATURE = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="


def verify(
    signatures: str,
    *,
    age: float = 0,
    timestamp: str = str(A_TIME),
    body: bytes = A_BODY,
    secrets: tuple[str, ...] = (),
) -> None:
    crypto.verify([*secrets, A_SECRET], A_ID, timestamp, signatures, body, now=A_TIME + age)


def test_the_vectors_of_the_standard() -> None:
    assert crypto.sign(A_SECRET, A_ID, A_TIME, A_BODY) == A_SIGNATURE
    assert crypto.sign(B_SECRET, B_ID, B_TIME, B_BODY) == B_SIGNATURE


def test_what_we_sign_the_package_of_the_standard_verifies_and_the_other_way_round() -> None:
    secret, body, now = crypto.new_secret("whsec_"), '{"type":"JobCompleted"}', datetime.now(UTC)
    timestamp = int(now.timestamp())
    ours = crypto.sign(secret, "evt_1", timestamp, body.encode())
    package = Webhook(secret)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(timestamp), "webhook-signature": ours}
    assert package.verify(body, headers) == {"type": "JobCompleted"}
    theirs = package.sign("evt_1", now, body)
    crypto.verify([secret], "evt_1", str(timestamp), theirs, body.encode(), now=timestamp)


@pytest.mark.parametrize(
    "signatures",
    [
        A_SIGNATURE.replace("E=", "A="),
        "v1,",
        "",
        "v1",
        "v1,,",
        A_SIGNATURE.removeprefix("v1,"),
        A_SIGNATURE.replace("v1,", "v2,"),
        "v1,\xe9",
    ],
)
def test_a_wrong_signature_is_refused(signatures: str) -> None:
    with pytest.raises(CryptoError, match="no signature"):
        verify(signatures)


def test_one_signature_that_fits_is_enough() -> None:
    other = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    verify(f"{other} {other.replace('v1', 'v2')}  {A_SIGNATURE}")
    verify(A_SIGNATURE, secrets=(crypto.new_secret("whsec_"),))


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(CryptoError, match="no signature"):
        verify(A_SIGNATURE, body=b'{"test": 2432232315}')


@pytest.mark.parametrize("age", [301, -301])
def test_five_minutes_either_way_are_tolerated_and_no_more(age: int) -> None:
    verify(A_SIGNATURE, age=age - age // abs(age))
    with pytest.raises(CryptoError, match="more than 300 s"):
        verify(A_SIGNATURE, age=age)


@pytest.mark.parametrize("timestamp", ["", "-1", "1e9", "soon", "9" * 5000])
def test_a_timestamp_that_is_none_is_refused(timestamp: str) -> None:
    with pytest.raises(CryptoError, match="unix seconds"):
        verify(A_SIGNATURE, timestamp=timestamp)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "begins with whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with whsec_"),
        ("whsec_", "24 to 64 bytes, not 0"),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "24 to 64 bytes, not 23"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "24 to 64 bytes, not 65"),
        ("whsec_" + base64.b64encode(bytes(25)).decode().rstrip("="), "base64 with its padding"),
        ("whsec_ü" + "A" * 31, "base64 with its padding"),
    ],
)
def test_a_wrong_secret_is_refused_without_being_shown(secret: str, why: str) -> None:
    with pytest.raises(CryptoError, match=why) as caught:
        crypto.decode_secret(secret)
    assert len(secret) < 10 or secret[6:] not in str(caught.value)


def test_new_secrets_are_valid_and_differ() -> None:
    first, second = crypto.new_secret("whsec_"), crypto.new_secret("whsec_")
    assert len(crypto.decode_secret(first)) == 32
    assert first != second


def test_a_request_signature_is_over_all_of_it() -> None:
    signature = crypto.sign_request("secret", "1700000000", "POST", b"/send?x=1", b"{}")
    assert signature.hex() == "0fbde9efae2b6d6b7f101892c705ae823115ab200fb6a2123e97c4d9cb1c3236"
    others = [
        crypto.sign_request("other", "1700000000", "POST", b"/send?x=1", b"{}"),
        crypto.sign_request("secret", "1700000001", "POST", b"/send?x=1", b"{}"),
        crypto.sign_request("secret", "1700000000", "PUT", b"/send?x=1", b"{}"),
        crypto.sign_request("secret", "1700000000", "POST", b"/send?x=2", b"{}"),
        crypto.sign_request("secret", "1700000000", "POST", b"/send?x=1", b"{ }"),
    ]
    assert signature not in others


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens_again(plain: bytes, about: bytes) -> None:
    sealer = Sealer([bytes(32)])
    sealed = sealer.seal(plain, about)
    assert sealer.open(sealed, about) == plain
    assert sealer.seal(plain, about) != sealed


def test_the_first_key_seals_and_all_open() -> None:
    old, new = Sealer([b"o" * 32]), Sealer([b"n" * 32, b"o" * 32])
    assert new.open(old.seal(b"plain", b"row"), b"row") == b"plain"
    with pytest.raises(CryptoError, match="does not open"):
        old.open(new.seal(b"plain", b"row"), b"row")


def test_any_changed_byte_or_other_owner_does_not_open() -> None:
    sealer = Sealer([bytes(32)])
    sealed = sealer.seal(b"plain", b"row")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(CryptoError):
            sealer.open(changed, b"row")
    for wrong in (sealed[:-1], sealed[:20], b""):
        with pytest.raises(CryptoError):
            sealer.open(wrong, b"row")
    with pytest.raises(CryptoError, match="does not open"):
        sealer.open(sealed, b"other row")


def test_keys_come_from_the_setting() -> None:
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
    both, second = Sealer.from_text(", ".join(keys)), Sealer.from_text(keys[1])
    assert both.open(second.seal(b"plain", b""), b"") == b"plain"
    with pytest.raises(CryptoError, match="at least one"):
        Sealer([])
