// Where the page is to crash, by order: once, at a step of sending a message. The names are those of control.py.

const KEY = "crash-at";

let crash = () => {};

/** Orders a crash at a step, whenever the profile comes to it; null takes the order back. */
export function order({ at }) {
  if (at) localStorage.setItem(KEY, at);
  else localStorage.removeItem(KEY);
}

/** Sets what a crash does. */
export function onCrash(act) {
  crash = act;
}

/** Crashes the page, and goes no further, if that is ordered for this step. */
export function pass(step) {
  if (localStorage.getItem(KEY) !== step) return;
  localStorage.removeItem(KEY);
  crash();
  throw new Error(`crashed at ${step}, as ordered`);
}
