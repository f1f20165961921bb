"use strict";
// Asks what the page shows now once a second, and counts down to the next code in between.

const LOOK = 1000; // ms
const LOOK_IN_TROUBLE = 5000; // ms
const PATIENCE = 10000; // ms that one answer may take
const OVER = new Set([401, 410]); // the visit has ended

const page = document.getElementById("page");
const code = document.getElementById("code");
const left = document.getElementById("left");
const next = document.getElementById("next");
const countdown = document.getElementById("countdown");
let ends = 0; // ms of performance.now() at which the code is replaced

// Written only when it changes: each change of these is read out by a screen reader.
function say(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
}

function show(scene) {
  page.dataset.phase = scene.phase;
  say("account", scene.account);
  say("heading", scene.heading);
  say("text", scene.text);
  document.title = `${scene.heading} · ${scene.account} · Postrider`;
  code.alt = `QR code that links the account ${scene.account}`;
  code.hidden = next.hidden = scene.picture === null;
  if (scene.picture === null) {
    code.removeAttribute("src");
    return;
  }
  ends = performance.now() + scene.secondsLeft * 1000;
  if (code.getAttribute("src") !== scene.picture || !left.dataset.begun) {
    code.src = scene.picture;
    left.dataset.begun = "yes";
    left.max = Math.max(scene.secondsLeft, 1);
  }
  count();
}

function count() {
  const seconds = Math.max(0, (ends - performance.now()) / 1000);
  left.value = seconds;
  code.classList.toggle("stale", seconds === 0);
  countdown.textContent = seconds > 0 ? `New code in ${Math.ceil(seconds)} s` : "The next code is on its way.";
}

function trouble(text) {
  document.getElementById("note").hidden = text === "";
  say("note", text);
}

function end(detail) {
  show({ account: document.getElementById("account").textContent, phase: "over", picture: null, heading: "This page has ended", text: detail });
}

// Returns the pause until the next look in ms, or null when there is none.
async function look() {
  const answer = await fetch("/qr/state", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  const found = await answer.json();
  if (OVER.has(answer.status)) {
    trouble("");
    end(found.detail);
    return null;
  }
  if (!answer.ok) {
    trouble(found.detail);
    return LOOK_IN_TROUBLE;
  }
  trouble("");
  show(found);
  return LOOK;
}

async function follow() {
  let pause = LOOK_IN_TROUBLE;
  try {
    pause = await look();
  } catch {
    trouble("The server does not answer. This page goes on by itself as soon as it does.");
  }
  if (pause !== null) setTimeout(follow, pause);
}

setInterval(() => { if (!next.hidden) count(); }, 250);
follow();
