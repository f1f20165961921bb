// The login screen: a QR code that changes, or a code to type on the phone.

import { listen } from "./api.js";
import { refusedCode } from "./dialogs.js";
import { button, h } from "./dom.js";
import { icon, testid } from "./generation.js";
import { REFRESH } from "./icons.js";
import { show } from "./screens.js";
import { timing, wait } from "./settings.js";

const SIZE = 228; // pixels
const COUNTRY = "+1 "; // stays in the box for the number
const BANNERS = {
  post_logout: "You have been logged out. To log back in, you will need to verify your phone number.",
  database_error: "A database error occurred on your browser. Please relink your device.",
  sync_issue: "Your device could not link due to a sync issue. Please relink your device.",
  link_failed: "Couldn't link device. Keep WhatsApp open on your phone when your device is linking.",
};
const REFUSALS = {
  too_many_attempts: [
    "Too many attempts", "There were too many attempts to link a device. Please try again later.",
  ],
  something_went_wrong: ["Something went wrong", "Please try again later."],
  limited_availability: ["Limited availability", "Log in with a QR code instead."],
  update_phone: ["Update WhatsApp on phone", "Then you can link with your phone number."],
};
const STEPS = [
  "Open WhatsApp on your phone",
  "Tap Menu or Settings and select Linked devices",
  "Tap Link a device",
  "Scan the QR code to confirm",
];

/** Shows the login screen; resolves to the device that this profile has become: {device, secret}. */
export function link() {
  return new Promise((linked) => new LinkScreen(linked).showQr());
}

class LinkScreen {
  constructor(linked) {
    this.linked = linked;
    this.box = h("div", { class: "link-box" });
    const query = new URLSearchParams(location.search);
    const banner = query.has("post_logout") && (BANNERS[query.get("logout_reason")] ?? BANNERS.post_logout);
    show(h("div", { class: "landing" },
      h("div", { class: "landing-brand" }, "WhatsApp Web", h("span", { class: "chip" }, "sandbox")),
      banner && h("div", { class: "landing-banner", role: "alert" }, banner),
      this.box));
  }

  /** Follows the server's codes; reconnects when the server is away. */
  follow(path, on) {
    this.source?.close();
    const linked = (device) => {
      this.source.close();
      this.linked(device);
    };
    const lost = async () => {
      await wait(timing.reconnect);
      if (this.source === source) this.follow(path, on);
    };
    const source = listen(path, { ...on, linked }, lost);
    this.source = source;
  }

  showQr() {
    const code = h("div", { class: "qr" }, h("span", { class: "spinner" }));
    const toPhone = button({ class: "link", ...testid("link_device_qr_phone_number_link") },
      () => code.querySelector("canvas") && this.askPhone(), "Link with phone number instead.");
    this.box.replaceChildren(
      h("div", { class: "link-text" },
        h("h1", {}, "Scan to log in"),
        h("ol", {}, STEPS.map((step) => h("li", {}, step))),
        h("label", { class: "stay" },
          h("input", { type: "checkbox", id: "auto-logout-toggle", checked: true }), "Stay logged in on this browser"),
        toPhone),
      code);
    this.follow("link", { ref: (data) => drawQr(code, data), idle: () => offerReload(code, () => this.showQr()) });
  }

  askPhone() {
    const label = "Type your phone number to log in to WhatsApp";
    const attributes = { type: "text", class: "phone-input", "aria-label": label };
    const keep = () => {
      if (!input.value.startsWith("+")) input.value = COUNTRY + input.value.replace(/\D/g, "");
    };
    const input = h("input", { ...attributes, ...testid("phone-number-input"), oninput: keep });
    input.value = COUNTRY;
    const error = h("div", { class: "form-error", role: "alert" });
    const next = () => {
      if (input.value.replace(/\D/g, "").length < 8) error.textContent = "Valid phone number is required.";
      else this.showCode(input.value);
    };
    this.box.replaceChildren(
      h("div", { class: "link-text" },
        h("h1", {}, "Enter phone number"),
        h("p", {}, "Select a country and enter your phone number."),
        input, error, button({ class: "button" }, next, "Next"),
        button({ class: "link" }, () => this.showQr(), "Log in with QR code")));
    input.focus();
  }

  showCode(phone) {
    const cells = h("div", { class: "cells", "aria-label": "Enter code on phone:" }, h("span", { class: "spinner" }));
    this.box.replaceChildren(
      h("div", { class: "link-text" },
        h("h1", {}, "Enter code on phone"),
        h("p", {}, `Linking WhatsApp account ${phone.trim()}`),
        cells,
        button({ class: "link" }, () => this.showQr(), "Log in with QR code")));
    const refused = ({ reason }) => {
      this.source.close();
      refusedCode(...REFUSALS[reason], () => this.askPhone());
    };
    const expired = () => {
      this.source.close();
      cells.removeAttribute("aria-details");
      const renew = button({ class: "link" }, () => this.showCode(phone), "Click to generate new code");
      cells.replaceChildren(h("div", {}, h("strong", {}, "Code expired"), " ", renew));
    };
    const on = { code: ({ code }) => drawCode(cells, code), refused, expired };
    this.follow(`link?pairing=${phone.replace(/\D/g, "")}`, on);
  }
}

function drawQr(box, { payload, rows }) {
  const label = "Scan this QR code to link a device!";
  const canvas = h("canvas", { role: "img", "aria-label": label, width: SIZE, height: SIZE });
  const brush = canvas.getContext("2d");
  const side = SIZE / rows.length;
  rows.forEach((row, y) => [...row].forEach((dark, x) => {
    // Whole pixels, so that there is no hairline between two dark squares.
    const [left, top] = [Math.round(x * side), Math.round(y * side)];
    if (dark === "1") brush.fillRect(left, top, Math.round((x + 1) * side) - left, Math.round((y + 1) * side) - top);
  }));
  box.setAttribute("data-ref", payload);
  for (const [name, value] of Object.entries(testid("link-device-qr-code"))) box.setAttribute(name, value);
  box.replaceChildren(canvas);
}

function offerReload(box, reload) {
  const attributes = { class: "qr-reload", ...testid("link_device_qr_expired_refresh_button") };
  const drawn = icon(REFRESH, { name: "ic-refresh", old: "refresh-large", size: 48 });
  box.classList.add("qr-covered");
  box.append(button(attributes, reload, drawn, "Click to reload QR code"));
}

function drawCode(cells, code) {
  cells.setAttribute("aria-details", [...code].join(","));
  const drawn = [...code].map((character) => h("span", { class: "cell" }, character));
  cells.replaceChildren(...drawn.slice(0, 4), h("span", { class: "dash" }, "-"), ...drawn.slice(4));
}
