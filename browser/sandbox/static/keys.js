// The login, stored in the browser profile: which device this is, and the key that proves it. The key is not
// extractable, so a copy of what scripts can read of the profile is not a login.

import { Database } from "./database.js";

const database = new Database("wawc_db_enc", (db) => db.createObjectStore("keys"));
const HMAC = { name: "HMAC", hash: "SHA-256" };

const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Returns the device that this profile is, or undefined: {device, key}. */
export const load = () => database.read("keys", (keys) => keys.get("device"));

/** Stores a new device; `secret` is base16. */
export async function keep(device, secret) {
  const key = await crypto.subtle.importKey("raw", bytes(secret), HMAC, false, ["sign"]);
  await database.write(["keys"], (keys) => void keys.put({ device, key }, "device"));
}

/** Returns the proof for a challenge, in base16. */
export const prove = async (key, challenge) =>
  hex(await crypto.subtle.sign(HMAC.name, key, new TextEncoder().encode(challenge)));

export const forget = () => database.delete();
