// One page per profile: the first holds the lock, and another asks before it takes it.

const KEY = "whatsapp-mutex";
const PATIENCE = 500; // milliseconds; a page that is just being replaced by this one gives its lock up meanwhile

/** Takes the lock if it is free; `lost()` is called when another page takes it away. Returns whether it was free. */
export async function acquire(lost, { steal = false } = {}) {
  const until = performance.now() + PATIENCE;
  do {
    if (await request(lost, steal)) return true;
  } while (performance.now() < until && (await new Promise((r) => setTimeout(r, 50, true))));
  return false;
}

function request(lost, steal) {
  return new Promise((resolve) => {
    const options = steal ? { steal } : { ifAvailable: true };
    const held = navigator.locks.request(KEY, options, (lock) => {
      resolve(lock !== null);
      if (lock === null) return undefined;
      localStorage.setItem(KEY, JSON.stringify({ tab: crypto.randomUUID(), at: Date.now() }));
      return new Promise(() => {}); // held until the page ends
    });
    held.catch(lost); // stolen
  });
}
