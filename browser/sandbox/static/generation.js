// The generations of WhatsApp Web's markup, and whether the page is harsh. The page was rebuilt between 2026-04 and
// 2026-08, and the rollout is gradual, so that a driver meets both; `bare` is the newer one as builds without test ids
// draw it.

import { h, svg } from "./dom.js";
import { CLOCK, FAILED, ONE_TICK as ONE, TWO_TICKS as TWO } from "./icons.js";

/** Choices that an order or the URL makes, and the profile keeps. Their values, the default first. */
const CHOICES = { dom: ["2026-08", "legacy", "bare"], harsh: ["0", "1"] };

function choose(name) {
  const [values, key] = [CHOICES[name], `sandbox-${name}`];
  const asked = document.documentElement.dataset[name] || new URLSearchParams(location.search).get(name);
  if (values.includes(asked)) localStorage.setItem(key, asked);
  const kept = localStorage.getItem(key);
  return values.includes(kept) ? kept : values[0];
}

/** "legacy", "2026-08" or "bare". */
export const generation = choose("dom");
export const legacy = generation === "legacy";

/** Whether the page has the rarer behaviour of real pages: see harsh.js. */
export const harsh = choose("harsh") === "1";

/** Deletes everything in localStorage except these choices. */
export function clearStorage() {
  localStorage.clear();
  localStorage.setItem("sandbox-dom", generation);
  localStorage.setItem("sandbox-harsh", harsh ? "1" : "0");
}

/** Returns the attribute data-testid, which only one of the generations has, and only for an id that is not empty. */
export const testid = (id) => (generation === "2026-08" && id ? { "data-testid": id } : {});

/**
 * How each state of an outgoing message is drawn: the old generation's icons in the bubble and in the list, and the new
 * one's, where "delivered" is the name of ONE tick. The newer page has no icon for a failure in its bubble: failMark().
 */
const STATES = {
  "-1": { label: null, path: FAILED, bubble: "message-fail", list: "message-fail", titles: [null, "ic-schedule"] },
  0: {
    label: " Pending ", path: CLOCK, bubble: "msg-time", list: "ic-chatlist-clock",
    titles: ["wds-ic-status-pending", "ic-schedule"],
  },
  1: { label: " Sent ", path: ONE, bubble: "msg-check", list: "status-check", titles: ["wds-ic-delivered"] },
  2: { label: " Delivered ", path: TWO, bubble: "msg-dblcheck", list: "status-dblcheck", titles: ["wds-ic-read"] },
  3: { label: " Read ", path: TWO, bubble: "msg-dblcheck", list: "status-dblcheck", titles: ["wds-ic-read"] },
};

/** Returns the icon of an outgoing message's state, in a bubble or in the chat list; the list has no aria-label. */
export function statusIcon(ack, place) {
  const state = STATES[ack];
  const title = state.titles[place === "list" ? state.titles.length - 1 : 0];
  if (!legacy && !title) return null;
  const drawn = svg(state.path, { size: 16, viewBox: "0 0 16 16", title: legacy ? null : title });
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

/**
 * Returns the mark beside a message that was not sent, in the newer page; the older one has a status icon. `words` is
 * the label of its button.
 */
export const failMark = (words) =>
  legacy
    ? null
    : h("div", { ...testid("fail-container"), class: "fail" },
      h("div", { role: "button", tabindex: "0", "aria-label": words },
        h("span", { class: "status status-failed" }, svg(FAILED, { size: 16, viewBox: "0 0 16 16", title: "ic-error" }))));

/** Returns an icon, by its name in each generation. The newer page, too, has data-icon on some. */
export function icon(path, { name, old = name, size = 24 }) {
  if (legacy) return h("span", { "data-icon": old, "aria-hidden": "true", class: "icon" }, svg(path, { size }));
  const attributes = { ...testid(name), "data-icon": name.startsWith("wds-ic-") ? null : name };
  return h("span", { ...attributes, "aria-hidden": "true", class: "icon" }, svg(path, { size, title: name }));
}
