// One page per profile: the first holds the lock, and another asks before it takes it. On a harsh page, an entry in
// localStorage counts as well, which a browser that was killed leaves behind.

import { harsh } from "./generation.js";
import { timing } from "./settings.js";

const KEY = "whatsapp-mutex";
const PATIENCE = 500; // milliseconds, in which a page that this one is just replacing gives its lock up

/** Takes the lock if it is free; `lost()` is called when another page takes it away. Returns whether it was free. */
export async function acquire(lost, { steal = false } = {}) {
  const until = performance.now() + PATIENCE;
  do {
    if (!steal && harsh && isTaken()) continue;
    if (await request(lost, steal)) return true;
  } while (performance.now() < until && (await new Promise((r) => setTimeout(r, 50, true))));
  return false;
}

/** Whether the entry of another page is recent enough to count. */
function isTaken() {
  const { at } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  return Date.now() - (at ?? -Infinity) < timing.mutex;
}

function request(lost, steal) {
  return new Promise((resolve) => {
    const options = steal ? { steal } : { ifAvailable: true };
    const held = navigator.locks.request(KEY, options, (lock) => {
      resolve(lock !== null);
      if (lock === null) return undefined;
      const tab = crypto.randomUUID();
      const say = () => localStorage.setItem(KEY, JSON.stringify({ tab, at: Date.now() }));
      say();
      setInterval(say, timing.mutex / 4);
      addEventListener("pagehide", () => localStorage.removeItem(KEY));
      return new Promise(() => {}); // held until the page ends
    });
    held.catch(lost); // stolen
  });
}
