<?php

declare(strict_types=1);

// Verify a webhook by Standard Webhooks 1.0.0. PHP 8 or newer; v1a needs the extension sodium, which comes with it.

const WEBHOOK_TOLERANCE = 300; // seconds

/**
 * Throws unless the request was signed with one of your keys, within the last five minutes. $keys are secrets (whsec_…) or
 * public keys (whpk_…), $headers is array_change_key_case(getallheaders()), $body is file_get_contents('php://input').
 */
function verify_webhook(array $keys, array $headers, string $body, ?int $now = null): void
{
    $stamp = $headers['webhook-timestamp'] ?? '';
    if (!preg_match('/\A[0-9]{1,12}\z/', $stamp) || abs(($now ?? time()) - (int) $stamp) > WEBHOOK_TOLERANCE) {
        throw new UnexpectedValueException('webhook-timestamp is missing, or too far from now');
    }
    $content = ($headers['webhook-id'] ?? '') . '.' . $stamp . '.' . $body;
    foreach ($keys as $key) {
        foreach (explode(' ', $headers['webhook-signature'] ?? '') as $signature) {
            if (webhook_signature_fits($key, $signature, $content)) {
                return;
            }
        }
    }
    throw new UnexpectedValueException('no signature in webhook-signature fits');
}

function webhook_signature_fits(string $key, string $signature, string $content): bool
{
    [$scheme, $text] = explode(',', $signature, 2) + [1 => ''];
    if ($scheme === 'v1' && str_starts_with($key, 'whsec_')) {
        $secret = base64_decode(substr($key, strlen('whsec_')), true);
        return $secret && hash_equals(base64_encode(hash_hmac('sha256', $content, $secret, true)), $text);
    }
    if ($scheme === 'v1a' && str_starts_with($key, 'whpk_')) {
        $public = base64_decode(substr($key, strlen('whpk_')), true);
        $given = base64_decode($text, true);
        return $public && $given && base64_encode($given) === $text
            && strlen($given) === SODIUM_CRYPTO_SIGN_BYTES
            && sodium_crypto_sign_verify_detached($given, $content, $public);
    }
    return false;
}
