// The Enter guard, put in before the page's own scripts: the first capturing listener on window is called first of all.
// It lets one Enter through, and only before the deadline it was armed with, so that a worker that was frozen between
// deciding and pressing cannot send late. Both clocks count: one stands still while the machine sleeps, the other may
// be set. Shift+Enter is a line break and passes, as do events that no person and no driver made.
(name) => {
  let armed = null;
  let swallowed = 0;
  const now = () => ({ steady: performance.now(), wall: Date.now() });
  const late = () => {
    const at = now();
    return armed === null || at.steady > armed.steady || at.wall > armed.wall;
  };
  window.addEventListener("keydown", (event) => {
    if (!event.isTrusted || event.key !== "Enter" || event.shiftKey) return;
    if (late()) {
      swallowed += 1;
      event.preventDefault();
      event.stopImmediatePropagation();
    }
    armed = null;
  }, { capture: true });
  const guard = {
    now,
    arm: (deadline) => { armed = deadline; swallowed = 0; },
    swallowed: () => swallowed,
  };
  // Hidden from the page's own enumeration of window; the name differs at every opening.
  Object.defineProperty(window, name, { value: Object.freeze(guard), enumerable: false });
}
