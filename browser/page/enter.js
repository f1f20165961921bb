// The Enter guard, put in before the page's own scripts: the first capturing listener on window is called first of all.
// It lets one Enter through: only before the deadline it was armed with, so that a worker that was frozen between
// deciding and pressing cannot send late (both clocks count: one stands still while the machine sleeps, the other may be
// set); and only on the element it was armed for, while the box is the one that was looked at, bears the same name and
// holds the same text, so that a dialog which took the focus gets no answer and another chat no message. Shift+Enter is a
// line break and passes, as do events that no person and no driver made.
(name) => {
  let armed = null;
  let held = "";
  const now = () => ({ steady: performance.now(), wall: Date.now() });
  const look = (box) => JSON.stringify([box.isConnected, box.getAttribute("aria-label"), box.innerHTML]);
  const fault = (event) => {
    const at = now();
    if (armed === null || at.steady > armed.deadline.steady || at.wall > armed.deadline.wall) return "late";
    return armed.target.contains(event.target) && look(armed.box) === armed.look ? "" : "elsewhere";
  };
  window.addEventListener("keydown", (event) => {
    if (!event.isTrusted || event.key !== "Enter" || event.shiftKey) return;
    const found = fault(event);
    if (found) {
      held ||= found;
      event.preventDefault();
      event.stopImmediatePropagation();
    }
    armed = null;
  }, { capture: true });
  const guard = {
    now,
    /** Lets the next Enter through on `target`, which is the box or the button that sends. */
    arm: ([deadline, box, target]) => {
      armed = { deadline, box, target, look: look(box) };
      held = "";
    },
    disarm: () => { armed = null; },
    /** Why an Enter was held back since it was armed: "late", "elsewhere", or "" where none was. */
    held: () => held,
  };
  // Hidden from the page's own enumeration of window; the name differs at every opening.
  Object.defineProperty(window, name, { value: Object.freeze(guard), enumerable: false });
}
