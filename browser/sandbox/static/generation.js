// The two generations of WhatsApp Web's markup. The page was rebuilt between 2026-04 and 2026-08, and the rollout is
// gradual, so that a driver meets both.

import { h, svg } from "./dom.js";
import { CLOCK, FAILED, ONE_TICK as ONE, TWO_TICKS as TWO } from "./icons.js";

const KEY = "sandbox-dom";
const GENERATIONS = ["legacy", "2026-08"];

function choose() {
  const asked = new URLSearchParams(location.search).get("dom");
  if (GENERATIONS.includes(asked)) localStorage.setItem(KEY, asked);
  const kept = localStorage.getItem(KEY);
  return GENERATIONS.includes(kept) ? kept : "2026-08";
}

/** "legacy" or "2026-08": asked for by `?dom=` once, then kept by the profile. */
export const generation = choose();
export const legacy = generation === "legacy";

/** Forgets everything in localStorage but the generation. */
export function clearStorage() {
  localStorage.clear();
  localStorage.setItem(KEY, generation);
}

/** Returns the attribute data-testid, which only the new generation has. */
export const testid = (id) => (legacy ? {} : { "data-testid": id });

/** How each state of an outgoing message is drawn. In the new generation "delivered" is the name of ONE tick. */
const STATES = {
  "-1": { label: null, path: FAILED, bubble: "message-fail", list: "message-fail", title: "wds-ic-error" },
  0: { label: " Pending ", path: CLOCK, bubble: "msg-time", list: "ic-chatlist-clock", title: "wds-ic-time" },
  1: { label: " Sent ", path: ONE, bubble: "msg-check", list: "status-check", title: "wds-ic-delivered" },
  2: { label: " Delivered ", path: TWO, bubble: "msg-dblcheck", list: "status-dblcheck", title: "wds-ic-read" },
  3: { label: " Read ", path: TWO, bubble: "msg-dblcheck", list: "status-dblcheck", title: "wds-ic-read" },
};

/** Returns the icon of an outgoing message's state, in a bubble or in the chat list; the list has no aria-label. */
export function statusIcon(ack, place) {
  const state = STATES[ack];
  const drawn = svg(state.path, { size: 16, viewBox: "0 0 16 16", title: legacy ? null : state.title });
  return h(
    "span",
    {
      class: `status${ack === 3 ? " status-read" : ""}${ack === -1 ? " status-failed" : ""}`,
      "data-icon": legacy ? state[place] : null,
      "aria-label": place === "bubble" ? state.label : null,
    },
    drawn,
  );
}

/** Returns an icon by the name it has in each generation. */
export function icon(path, { name, old = name, size = 24 }) {
  if (legacy) return h("span", { "data-icon": old, "aria-hidden": "true", class: "icon" }, svg(path, { size }));
  return h("span", { ...testid(name), "aria-hidden": "true", class: "icon" }, svg(path, { size, title: name }));
}
