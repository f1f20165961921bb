// The Enter guard. It is installed before the page's own scripts, since the first capturing listener on window is
// called before all others. It lets one Enter through, on two conditions:
// - before the deadline that it was armed with, so that a worker that was frozen between deciding and pressing cannot
//   send late. Two clocks count: one stands still while the machine sleeps, the other may be set.
// - on the element that it was armed for, while the box is the same element with the same label and text, so that Enter
//   cannot answer a dialog that took the focus, or send into another chat.
// Shift+Enter, a line break, passes, and so do untrusted events, which neither a person nor the driver made.
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
    /** Allows the next Enter on `target`, which is the box or the send button. */
    arm: ([deadline, box, target]) => {
      armed = { deadline, box, target, look: look(box) };
      held = "";
    },
    disarm: () => { armed = null; },
    /** Returns why an Enter was blocked since arming: "late", "elsewhere", or "" if none was. */
    held: () => held,
  };
  // Not enumerable on window, and under a name that differs at every opening, so that the page does not find it.
  Object.defineProperty(window, name, { value: Object.freeze(guard), enumerable: false });
}
