// The two generations of WhatsApp Web's markup. The page was rebuilt between 2026-04 and 2026-08, and the rollout is
// gradual, so that a driver meets both.

import { h, svg } from "./dom.js";

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

const CLOCK = "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11Zm0 1a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9ZM7.5 5v3.3l2.4 1.5.5-.8-1.9-1.2V5Z";
const ONE = "M12.7 3.6 6.5 11 3.6 8.2l-.8.8 3.8 3.7 7-8.3Z";
const TWO = "M10.6 3.6 4.9 10.4 2.2 7.8l-.8.8 3.6 3.5 6.5-7.7Zm3.8 0L8.7 10.4l-.9-.9-.7.8 1.7 1.7 6.5-7.7Z";
const FAILED = "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13ZM7.3 4.5h1.4v4.7H7.3Zm0 5.8h1.4v1.4H7.3Z";

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
