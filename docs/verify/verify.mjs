// Verify a webhook by Standard Webhooks 1.0.0. Node 16 or newer; no packages.
import { createHmac, createPublicKey, timingSafeEqual, verify as verifyBytes } from "node:crypto";

const TOLERANCE = 300; // seconds
const SHORTEST = 24; // bytes of a secret: with an empty one anybody could sign
const ED25519 = Buffer.from("302a300506032b6570032100", "hex"); // DER prefix of an Ed25519 public key (RFC 8410)

// Throws unless the request was signed with one of your keys, within the last five minutes. `keys` are secrets (whsec_…)
// or public keys (whpk_…), `headers` are request.headers, `body` is a Buffer of the bytes that came, not parsed JSON.
export function verify(keys, headers, body, now = Date.now() / 1000) {
  const stamp = headers["webhook-timestamp"] ?? "";
  if (!/^[0-9]{1,12}$/.test(stamp) || Math.abs(now - Number(stamp)) > TOLERANCE) {
    throw new Error("webhook-timestamp is missing, or too far from now");
  }
  const content = Buffer.concat([Buffer.from(`${headers["webhook-id"] ?? ""}.${stamp}.`), body]);
  const signatures = (headers["webhook-signature"] ?? "").split(" ");
  if (!keys.some((key) => signatures.some((signature) => fits(key, signature, content)))) {
    throw new Error("no signature in webhook-signature fits");
  }
}

function fits(key, signature, content) {
  const comma = signature.indexOf(",");
  const [scheme, text] = [signature.slice(0, comma), signature.slice(comma + 1)];
  if (scheme === "v1" && key.startsWith("whsec_")) {
    const secret = Buffer.from(key.slice("whsec_".length), "base64");
    if (secret.length < SHORTEST || secret.toString("base64") !== key.slice("whsec_".length)) {
      throw new Error("a secret is whsec_ and base64 of 24 bytes or more");
    }
    const expected = Buffer.from(createHmac("sha256", secret).update(content).digest("base64"));
    const given = Buffer.from(text);
    return given.length === expected.length && timingSafeEqual(given, expected);
  }
  if (scheme === "v1a" && key.startsWith("whpk_")) {
    const der = Buffer.concat([ED25519, Buffer.from(key.slice("whpk_".length), "base64")]);
    const given = Buffer.from(text, "base64");
    const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
    return given.toString("base64") === text && verifyBytes(null, content, publicKey, given);
  }
  return false;
}
