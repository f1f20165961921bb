#!/bin/sh
# Verify a webhook by hand, by Standard Webhooks 1.0.0, with OpenSSL 3 (ps shows the secret while this runs):
#   verify.sh "whsec_… or whpk_…, several with spaces" WEBHOOK-ID WEBHOOK-TIMESTAMP "WEBHOOK-SIGNATURE" FILE-WITH-THE-BODY
# Exits with 0 if a signature fits and is at most five minutes old, else with 1 and a line that says why.
set -eu
keys=$1 id=$2 stamp=$3 signatures=$4 body=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

refuse() { echo "$1" >&2; exit 1; }

case $stamp in '' | *[!0-9]* | ?????????????*) refuse "webhook-timestamp is missing, or no number" ;; esac
age=$((${NOW:-$(date +%s)} - $stamp))
[ "${age#-}" -le 300 ] || refuse "webhook-timestamp is too far from now"

{ printf '%s.%s.' "$id" "$stamp"; cat "$body"; } >"$work/content"

fits() { # key, signature
    case "$1 $2" in
    whsec_*' v1,'*)
        secret=$(printf %s "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
        [ ${#secret} -ge 48 ] || refuse "a secret is not whsec_ and base64 of 24 bytes or more"
        expected=$(openssl dgst -sha256 -mac HMAC -macopt "hexkey:$secret" -binary "$work/content" | openssl base64 -A)
        [ -n "$expected" ] && [ "$2" = "v1,$expected" ] ;;
    whpk_*' v1a,'*)
        # The DER prefix of an Ed25519 public key (RFC 8410), and the key.
        { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; printf %s "${1#whpk_}" | openssl base64 -d -A; } >"$work/key"
        printf %s "${2#v1a,}" | openssl base64 -d -A >"$work/signature"
        [ "$2" = "v1a,$(openssl base64 -A -in "$work/signature")" ] && openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key" -rawin -in "$work/content" \
            -sigfile "$work/signature" >/dev/null 2>&1 ;;
    *) false ;;
    esac
}

set -f # the lists are split at spaces, without globbing
for key in $keys; do
    for signature in $signatures; do
        if fits "$key" "$signature"; then exit 0; fi
    done
done
refuse "no signature in webhook-signature fits"
