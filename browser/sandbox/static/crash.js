// Crashes the page by order: once, at a step of sending a message. The names of the steps are those of control.py.

const KEY = "crash-at";

let crash = () => {};

/** Orders a crash at a step; the profile keeps the order until it is carried out, or null cancels it. */
export function order({ at }) {
  if (at) localStorage.setItem(KEY, at);
  else localStorage.removeItem(KEY);
}

/** Sets what a crash does. */
export function onCrash(act) {
  crash = act;
}

/** Crashes the page and throws, if that is ordered for this step. */
export function pass(step) {
  if (localStorage.getItem(KEY) !== step) return;
  localStorage.removeItem(KEY);
  crash();
  throw new Error(`crashed at ${step}, as ordered`);
}
