#!/bin/sh
# Send a signed test event to your receiver, with curl and OpenSSL: send.sh whsec_… https://shop.example/hooks
# Prints the receiver's answer.
set -eu
secret=$(printf %s "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
id=evt_$(openssl rand -hex 16)
stamp=$(date +%s)
body='{"type":"WebhookTest","timestamp":"'$(date -u +%Y-%m-%dT%H:%M:%S.000Z)'","data":{"endpoint":"whe_try"}}'
signature=$(printf %s "$id.$stamp.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$secret" -binary | openssl base64 -A)
curl --silent --show-error --include --max-time 20 --data-binary "$body" --header 'content-type: application/json' \
    --header "webhook-id: $id" --header "webhook-timestamp: $stamp" --header "webhook-signature: v1,$signature" "$2"
