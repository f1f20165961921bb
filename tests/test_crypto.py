import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

import crypto
from crypto import HEAD, CryptoError, Sealer

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
OTHER = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="  # of another secret
C_PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
C_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
C_SIGNATURE = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def verify(
    signatures: str,
    *,
    age: float = 0,
    timestamp: str = str(A_TIME),
    body: bytes = A_BODY,
    keys: tuple[str, ...] = (A_SECRET, C_PUBLIC),
) -> None:
    crypto.verify(keys, A_ID, timestamp, signatures, body, now=A_TIME + age)


def test_the_vectors_of_the_standard() -> None:
    assert crypto.sign(A_SECRET, A_ID, A_TIME, A_BODY) == A_SIGNATURE
    assert crypto.sign(B_SECRET, B_ID, B_TIME, B_BODY) == B_SIGNATURE
    assert crypto.sign(C_PRIVATE, A_ID, A_TIME, A_BODY) == C_SIGNATURE
    verify(A_SIGNATURE, keys=(A_SECRET,))
    verify(C_SIGNATURE, keys=(C_PUBLIC,))
    crypto.verify([B_SECRET], B_ID, str(B_TIME), B_SIGNATURE, B_BODY, now=B_TIME)


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
        "v1a,",
        "",
        " ",
        "  ",
        ",",
        "v1",
        "v1a",
        "v1,,",
        "v1a,,",
        f"{A_SIGNATURE},",
        f"{C_SIGNATURE},{C_SIGNATURE}",
        f"{OTHER}  {OTHER}",
        A_SIGNATURE.rstrip("="),
        C_SIGNATURE.rstrip("="),
        C_SIGNATURE[:-8],
        C_SIGNATURE.replace("hnO", "hnP"),
        A_SIGNATURE.removeprefix("v1,"),
        A_SIGNATURE.replace("v1,", "v2,"),
        A_SIGNATURE.replace("v1,", "v1a,"),
        C_SIGNATURE.replace("v1a,", "v1,"),
        A_SIGNATURE.replace(",", ", "),
        A_SIGNATURE.upper(),
        "v1,\xe9",
        "v1a,\xe9",
    ],
)
def test_a_wrong_signature_is_refused(signatures: str) -> None:
    with pytest.raises(CryptoError, match="no signature"):
        verify(signatures)


@pytest.mark.parametrize("fitting", [A_SIGNATURE, C_SIGNATURE])
def test_one_signature_that_fits_one_key_is_enough(fitting: str) -> None:
    verify(f"{OTHER} {OTHER.replace('v1', 'v2')} v1a, v1  {fitting}")
    verify(f"{fitting} {OTHER}")
    others = crypto.new_secret("whsec_"), crypto.new_webhook_keys()[1]
    verify(fitting, keys=(*others, C_PUBLIC, A_SECRET))
    for keys in (others, ()):
        with pytest.raises(CryptoError, match="no signature"):
            verify(fitting, keys=keys)


def test_several_secrets_sign_in_their_order() -> None:
    secrets = [crypto.new_secret("whsec_"), C_PRIVATE, A_SECRET]
    header = crypto.sign_all(secrets, A_ID, A_TIME, A_BODY)
    assert header == f"{crypto.sign(secrets[0], A_ID, A_TIME, A_BODY)} {C_SIGNATURE} {A_SIGNATURE}"
    for key in (secrets[0], C_PUBLIC, A_SECRET):
        verify(header, keys=(key,))


@pytest.mark.parametrize("signature", [A_SIGNATURE, C_SIGNATURE])
def test_whatever_is_signed_and_changed_is_refused(signature: str) -> None:
    with pytest.raises(CryptoError, match="no signature"):
        verify(signature, body=b'{"test": 2432232315}')
    with pytest.raises(CryptoError, match="no signature"):
        verify(signature, timestamp=str(A_TIME + 1))
    with pytest.raises(CryptoError, match="no signature"):
        crypto.verify([A_SECRET, C_PUBLIC], f"{A_ID}x", str(A_TIME), signature, A_BODY, now=A_TIME)


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


SEED, PUBLIC = (base64.b64decode(C_PRIVATE.removeprefix("whsk_"))[half] for half in (slice(32), slice(32, None)))


def in_text(prefix: str, content: bytes) -> str:
    return prefix + base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("whsk_", "64 bytes, its seed and its public key, not 0"),
        (in_text("whsk_", SEED), "not 32"),
        (in_text("whsk_", SEED + PUBLIC + b"x"), "not 65"),
        (in_text("whsk_", SEED + bytes(32)), "belongs to another one"),
        (C_PRIVATE.rstrip("="), "base64 with its padding"),
        (C_PUBLIC, "begins with whsec_"),
    ],
)
def test_a_wrong_private_key_is_refused_without_being_shown(key: str, why: str) -> None:
    with pytest.raises(CryptoError, match=why) as caught:
        crypto.sign(key, A_ID, A_TIME, A_BODY)
    assert len(key) < 10 or key[5:] not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("whpk_", "32 bytes, not 0"),
        (in_text("whpk_", PUBLIC[:-1]), "32 bytes, not 31"),
        (in_text("whpk_", SEED + PUBLIC), "32 bytes, not 64"),
        (C_PUBLIC.rstrip("="), "base64 with its padding"),
        (C_PRIVATE, "begins with whsec_"),
        ("whsec_", "24 to 64 bytes, not 0"),
        ("", "begins with whsec_"),
    ],
)
def test_what_is_no_key_verifies_nothing(key: str, why: str) -> None:
    with pytest.raises(CryptoError, match=why):
        verify(f"{A_SIGNATURE} {C_SIGNATURE}", keys=(key,))


def test_new_secrets_and_keys_are_valid_and_differ() -> None:
    first, second = crypto.new_secret("whsec_"), crypto.new_secret("whsec_")
    assert len(crypto.decode_secret(first)) == 32
    assert first != second
    (private, public), (other, _) = crypto.new_webhook_keys(), crypto.new_webhook_keys()
    verify(crypto.sign(private, A_ID, A_TIME, A_BODY), keys=(public,))
    assert private != other


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


def test_a_fingerprint_names_a_key_and_stays_what_it_is() -> None:
    assert Sealer([bytes(32), b"n" * 32]).fingerprints == ["ae04b6a07f56feb2", "5bf1ba8b57b50f0b"]


def test_what_an_old_key_sealed_is_sealed_anew_with_the_first_and_once() -> None:
    old, both, new = Sealer([b"o" * 32]), Sealer([b"n" * 32, b"o" * 32]), Sealer([b"n" * 32])
    fresh = both.renew(old.seal(b"plain", b"row"), b"row")
    assert fresh
    assert new.open(fresh, b"row") == b"plain"
    assert both.renew(fresh, b"row") is None
    with pytest.raises(CryptoError, match="does not open"):
        new.renew(old.seal(b"plain", b"row"), b"row")
    with pytest.raises(CryptoError, match="does not open"):
        both.renew(old.seal(b"plain", b"row"), b"other row")


def test_the_key_of_something_large_is_told_by_its_first_bytes() -> None:
    beginning, plain = b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd" + bytes(1000)
    sealer, third = Sealer([b"n" * 32, b"o" * 32]), Sealer([b"t" * 32])
    for place, key in enumerate((b"n" * 32, b"o" * 32)):
        head = Sealer([key]).seal(plain, b"row")[:HEAD]
        assert sealer.place_of(head, beginning) == place
        assert sealer.place_of(head, b"other") is None
        assert sealer.place_of(b"\2" + head[1:], beginning) is None
        assert sealer.place_of(head[:14], beginning) is None
    assert sealer.place_of(third.seal(plain, b"row")[:HEAD], beginning) is None


def test_text_that_claims_to_be_sealed_and_is_no_base64_is_refused() -> None:
    sealed = Sealer([bytes(32)]).seal(b"plain", b"")
    assert crypto.from_text(crypto.to_text(sealed)) == sealed
    assert crypto.from_text("plain") is None
    with pytest.raises(CryptoError, match="sealed: must be base64"):
        crypto.from_text("sealed:?")
