// Builds elements. Text is always text: nothing that a message holds is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Returns an element; attributes named `on…` are listeners, and empty children are left out. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** Returns an svg with one path, and a title if one is given. */
export function svg(path, { size = 24, title = null, viewBox = "0 0 24 24" } = {}) {
  const root = document.createElementNS(SVG, "svg");
  const shape = fill(document.createElementNS(SVG, "path"), { d: path, fill: "currentColor" }, []);
  const name = title && fill(document.createElementNS(SVG, "title"), {}, [title]);
  return fill(root, { viewBox, width: size, height: size, "aria-hidden": title ? null : "true" }, [name, shape]);
}

/** Returns a button that reacts to trusted clicks only, as the whole page does. */
export const button = (attributes, act, ...children) =>
  h("button", { type: "button", ...attributes, onclick: (event) => event.isTrusted && act(event) }, ...children);
