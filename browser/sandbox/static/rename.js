// Gives elements of the page other names, by order, as WhatsApp does when it renames things: what a driver knows them by
// is gone, and nothing else. Our own code finds them all the same, but for #app and the start-up block.

const NAMES = [
  "aria-label", "data-icon", "data-id", "data-lexical-editor", "data-pre-plain-text", "data-ref", "data-tab",
  "data-testid", "id", "role", "title",
];
const BEGINNING = "renamed-";

let wanted = "";

/** Renames an element, once; a title is the name of its picture. */
function rename(node) {
  if (node.tagName === "title" && !node.textContent.startsWith(BEGINNING)) node.textContent = BEGINNING + node.textContent;
  for (const name of NAMES) {
    const value = node.getAttribute(name);
    if (value && !value.startsWith(BEGINNING)) node.setAttribute(name, BEGINNING + value);
  }
}

function renameAll() {
  if (wanted) document.querySelectorAll(wanted).forEach(rename);
}

/** Renames whatever the selector finds, now and whenever it comes; an empty one ends it with a fresh load. */
export function order({ css }) {
  if (css === wanted) return;
  if (!css) return location.reload();
  wanted = css;
  renameAll();
}

/** Renames from the beginning what the page was loaded with. */
export function begin() {
  new MutationObserver(renameAll).observe(document, { attributes: true, childList: true, subtree: true });
  order({ css: document.documentElement.dataset.renamed });
}
