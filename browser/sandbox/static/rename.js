// Gives elements of the page other names, by order, as WhatsApp does when it renames things: what a driver knows them by
// is gone, and nothing else. Our own code finds them all the same, but for #app and the start-up block.

const NAMES = [
  "aria-label", "data-icon", "data-id", "data-lexical-editor", "data-pre-plain-text", "data-ref", "data-tab",
  "data-testid", "id", "role", "title",
];
const ENDING = "-renamed";

let wanted = "";

/** Renames an element, once. */
function rename(node) {
  for (const name of NAMES) {
    const value = node.getAttribute(name);
    if (value && !value.endsWith(ENDING)) node.setAttribute(name, value + ENDING);
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
