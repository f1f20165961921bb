// Reads the page, with one call per question. It is compiled once per document, with the selectors' alternatives of
// each element, css: {name: [alternatives]}. A reader takes { css, … }, changes nothing (except the two that scroll)
// and returns plain data; Python decides what the data means.
(css) => {
  const shown = (node) => node.checkVisibility({ visibilityProperty: true });

  // The first alternative that matches anything counts; a selector this Chromium cannot parse matches nothing.
  const all = (root, alternatives) => {
    for (const css of alternatives) {
      try {
        const nodes = [...root.querySelectorAll(css)];
        if (nodes.length) return nodes;
      } catch { /* the next one */ }
    }
    return [];
  };
  const one = (root, alternatives) => all(root, alternatives)[0] ?? null;
  // The first node that matches among a node itself and those in it.
  const within = (node, alternatives) =>
    all(node.parentElement, alternatives).find((each) => node.contains(each)) ?? null;

  // Text as a person reads it, with its line breaks, and with the marks of lists and quotes before their lines.
  // innerText would drop emoji, which the page draws as pictures; `holes` counts the pictures that have no alternative
  // text. Nodes in `outside` are left out.
  const BLOCK = new Set(["DIV", "P", "LI", "UL", "OL", "BLOCKQUOTE", "PRE"]);
  const words = (node, outside = new Set()) => {
    let [text, holes, open, ended] = ["", 0, false, false];
    const say = (more) => {
      if (ended) text += "\n";
      [text, open, ended] = [text + more, true, false];
    };
    const end = () => {
      if (open) [open, ended] = [false, true];
    };
    const read = (at) => {
      if (at.nodeType === Node.TEXT_NODE) return void (at.data && say(at.data));
      if (at.nodeType !== Node.ELEMENT_NODE || outside.has(at)) return;
      if (at.tagName === "IMG") return void (at.alt ? say(at.alt) : (holes += 1));
      // A <br> at the end of a block is no line break: it only keeps the line open.
      if (at.tagName === "BR") return say(at.nextSibling || !BLOCK.has(at.parentNode.tagName) ? "\n" : "");
      if (!BLOCK.has(at.tagName)) return void at.childNodes.forEach(read);
      end();
      const mark = markOf(at);
      if (mark) say(mark);
      at.childNodes.forEach(read);
      end();
    };
    if (node) read(node);
    return { text, holes };
  };

  // The mark that a line of a list or a quote was written with. The newer page keeps it in an attribute, for copying.
  const markOf = (node) => {
    const copied = node.getAttribute("data-pre-plain-text");
    if (copied && !copied.startsWith("[")) return copied;
    if (node.tagName === "BLOCKQUOTE") return [...node.children].some((each) => BLOCK.has(each.tagName)) ? "" : "> ";
    if (node.parentNode?.tagName === "BLOCKQUOTE") return "> ";
    if (node.tagName !== "LI") return "";
    const list = node.closest("ol, ul");
    return list?.tagName === "OL" ? `${list.start + [...list.children].indexOf(node)}. ` : "- ";
  };

  // The page's own words: all visible text except chat names, messages and the text that is being typed. A message that
  // quotes a ban screen must not look like one.
  const ownWords = (root, outside) => {
    const read = (node) => {
      if (outside.has(node) || !shown(node)) return "";
      const inner = [...outside].some((other) => node.contains(other));
      return inner ? [...node.children].map(read).join("\n") : node.innerText ?? "";
    };
    return root ? read(root) : "";
  };

  const label = (node) => node.getAttribute("aria-label") ?? "";

  const mainOf = (css) => one(document, css.main);
  const panelOf = (css) => one(document, css.panel) ?? mainOf(css);

  const dialogs = (css) =>
    all(document, css.dialog)
      .filter((node, _, every) => shown(node) && !every.some((other) => other !== node && other.contains(node)))
      .map((node) => ({
        text: `${label(node)}\n${node.innerText ?? ""}`,
        media: !!node.querySelector('img[src^="blob:"]'),
        buttons: [...node.querySelectorAll('button, [role="button"]')].filter(shown)
          .map((button) => label(button) || button.innerText.trim()),
      }));

  // What is on the screen: which elements are visible, the page's own words and the dialogs.
  const sight = ({ css }) => {
    const outside = new Set(
      ["pane", "panel", "header", "compose", "search"].flatMap((name) => all(document, css[name])));
    const found = Object.keys(css).filter((name) => all(document, css[name]).some(shown));
    const reference = one(document, css.qr_ref)?.getAttribute("data-ref") || null;
    return {
      found, reference,
      overlaid: all(document, css.qr_reload).some(shown),
      progress: [...all(document, css.progress), ...all(document, css.boot).flatMap((each) => [...each.querySelectorAll("progress")])]
        .map((bar) => bar.value ?? bar.getAttribute("aria-valuenow")).join(),
      text: ownWords(document.body, outside).slice(0, 20000),
      dialogs: dialogs(css),
      path: location.pathname + location.search,
      empty: !document.body?.childElementCount,
    };
  };

  // The first alternative of an element that is visible now, and the index of its visible node.
  const place = ({ alternatives }) => {
    for (const [index, css] of alternatives.entries()) {
      try {
        const nth = [...document.querySelectorAll(css)].findIndex(shown);
        if (nth >= 0) return [index, nth];
      } catch { /* the next one */ }
    }
    return null;
  };

  // For each element, the alternative that is visible now; the alternatives that cannot be parsed; the number of lines
  // in the chat list. Parts of a message are searched in the message list only: the compose box has text of the same
  // kind.
  const MESSAGE = new Set(["bubble", "outgoing", "incoming", "box", "text", "quote", "meta", "failed", "notice"]);
  const census = ({ css }) => {
    const broken = [];
    const nodes = (root, each) => {
      try {
        return [...root.querySelectorAll(each)];
      } catch {
        broken.push(each);
        return [];
      }
    };
    const panel = panelOf(css) ?? document;
    const places = Object.entries(css).map(([name, alternatives]) => {
      const root = MESSAGE.has(name) ? panel : document;
      return [name, alternatives.map((each) => nodes(root, each).some(shown)).indexOf(true)];
    });
    const lines = (one(document, css.pane)?.innerText ?? "").split("\n").filter((line) => line.trim());
    return { places: Object.fromEntries(places), broken, listed: lines.length };
  };

  // The icons within a node, in the order of the page: accessible name, icon name, and colour (grey or blue). Nodes in
  // `outside` are left out.
  const icons = (node, outside = new Set()) => {
    const inside = [node, ...node.querySelectorAll("svg, [data-icon]")].filter((each) => each.matches("svg, [data-icon]"));
    // An svg in a node with data-icon is that node's icon, not another one.
    const drawn = inside.filter((each) => !(each.tagName === "svg" && each.parentNode.closest("[data-icon]")));
    return drawn.filter((each) => ![...outside].some((one) => one.contains(each))).map((each) => {
      const named = each.closest("[aria-label]");
      return {
        label: named && node.contains(named) ? label(named) : "",
        icon: each.getAttribute("data-icon") ?? each.querySelector("title")?.textContent ?? "",
        color: getComputedStyle(each).color,
      };
    });
  };

  const identity = (node) =>
    node.getAttribute("data-id") ?? (node.getAttribute("data-testid") ?? "").replace(/^conv-msg-/, "");

  // On which half of the panel a bubble's box lies. English is written from left to right, so ours are on the right. A
  // box that is about as far from both edges is in the middle, as notices are.
  const side = (box, panel) => {
    const [inner, outer] = [box.getBoundingClientRect(), panel.getBoundingClientRect()];
    const [left, right] = [inner.left - outer.left, outer.right - inner.right];
    if (!inner.width || Math.abs(left - right) < outer.width / 20) return "middle";
    return left > right ? "right" : "left";
  };

  // The nodes with a message id, oldest first. Nodes with the same id may be nested: one id is one row.
  const bearers = (css, panel) => {
    const seen = new Map();
    for (const node of panel ? css.bubble.flatMap((each) => all(panel, [each])) : []) {
      const id = identity(node);
      if (id && !seen.has(id)) seen.set(id, node);
    }
    return [...seen].sort(([, a], [, b]) =>
      a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
  };

  // A message without what it quotes: the quotes in it, and its own nodes of the first alternative that finds any.
  const partsOf = (css, node) => {
    const quotes = new Set(css.quote.flatMap((each) => all(node, [each])));
    const own = (alternatives) => alternatives
      .map((each) => all(node, [each]).filter((found) => ![...quotes].some((quote) => quote.contains(found))))
      .find((found) => found.length) ?? [];
    return { quotes, own };
  };
  const marksOf = (css, node, { quotes, own }) =>
    ({ status: own(css.meta).flatMap((each) => icons(each)), icons: icons(node, quotes) });

  // Every message in the DOM. One far from the view keeps its id and loses its content.
  const rows = ({ css }) => {
    const panel = panelOf(css);
    return bearers(css, panel).map(([id, node]) => {
      const { quotes, own } = partsOf(css, node);
      const [box, body, failed] = [css.box, css.text, css.failed].map((each) => own(each)[0] ?? null);
      const marks = (alternatives) => alternatives.some((each) => within(node, [each]));
      return {
        id, ...words(body, quotes), ...marksOf(css, node, { quotes, own }),
        content: node.childElementCount > 0, written: !!body, bubble: !!(own(css.meta).length || box || body),
        notice: marks(css.notice), outgoing: marks(css.outgoing), incoming: marks(css.incoming),
        side: side(box ?? node.firstElementChild ?? node, panel),
        failed: failed && (label(failed) || failed.innerText || "failed"),
      };
    });
  };

  // The icons of these messages, as far as they are in the DOM; their texts are not read.
  const statuses = ({ css, ids }) => bearers(css, panelOf(css)).filter(([id]) => ids.includes(id))
    .map(([id, node]) => ({ id, ...marksOf(css, node, partsOf(css, node)) }));

  // The rows between the messages: dates, notices, and the divider with the number of unread messages.
  const notices = ({ css }) => {
    const panel = panelOf(css);
    return (panel ? all(panel, css.message_row) : [])
      .filter((row) => !css.bubble.some((each) => row.matches(each) || row.querySelector(each)))
      .map((row) => row.textContent.slice(0, 200));
  };

  const titleIn = (root, alternatives) => {
    const title = one(root, alternatives);
    return title?.getAttribute("title") || title?.textContent || "";
  };

  // A row of the chat list, without its icons.
  const listed = (css, row) => {
    const unread = one(row, css.chat_unread);
    return {
      shown: shown(row), unread: unread ? `${unread.textContent} ${label(unread)}` : "", group: !!one(row, css.chat_group),
      title: titleIn(row, css.chat_title),
    };
  };

  const chats = ({ css }) => {
    const used = css.chat_row.find((each) => document.querySelector(each));
    return all(document, css.chat_row).map((row, nth) => ({
      css: used, nth, ...listed(css, row), status: icons(one(row, css.chat_status) ?? row), own: !!within(row, css.chat_own),
    })).filter((row) => row.shown);
  };

  // The open chat: its title in the header and its label on the box, the content of the box, and the page's own words
  // in it, such as a notice in the place of the box.
  const chat = ({ css }) => {
    const box = all(document, css.compose).find(shown) ?? null;
    const main = mainOf(css);
    const outside = new Set(["panel", "header", "compose"].flatMap((name) => all(document, css[name])));
    return {
      notice: ownWords(main, outside),
      box: !!box, label: box ? label(box) : "", ...words(box),
      title: titleIn(document, css.header_title),
      ids: bearers(css, panelOf(css)).map(([id]) => id),
    };
  };

  // Where new messages show: the open chat's name, its last message, the chat list. The answer is null if `known` is the
  // mark of the last glance and nothing in the document has changed since. Of the changes only the first is noted, so
  // that a busy page is not slowed down. A change of style sheets alone is not seen.
  let glanced = null;
  const changed = () => {
    glanced = null;
    watch.disconnect();
  };
  const watch = new MutationObserver(changed);
  const glance = ({ css, known, mark }) => {
    if (watch.takeRecords().length) changed();
    if (glanced !== null && glanced === known) return null;
    watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    glanced = mark;
    const box = all(document, css.compose).find(shown);
    return {
      name: titleIn(document, css.header_title) || (box ? label(box) : ""),
      last: bearers(css, panelOf(css)).at(-1)?.[0] ?? null,
      rows: all(document, css.chat_row).map((row) => listed(css, row)).filter((row) => row.shown),
    };
  };

  // The lines of the contact's panel.
  const contact = ({ css }) =>
    (all(document, css.contact).find(shown)?.innerText ?? "").split("\n").map((line) => line.trim()).filter(Boolean);

  // How many parts of messages are outside of every node with a message id.
  const loose = ({ css }) => {
    const panel = panelOf(css);
    const held = bearers(css, panel).map(([, node]) => node);
    const parts = panel ? [css.box, css.meta, css.text].flatMap((each) => all(panel, each)) : [];
    return parts.filter((part) => !held.some((node) => node.contains(part))).length;
  };

  // Everything that is checked before Enter, in one read: the chat, what covers it or would get the keys, the focus,
  // the messages, and parts of messages outside of every message.
  const ready = ({ css }) => {
    const box = all(document, css.compose).find(shown) ?? null;
    return {
      panel: !!one(document, css.panel), chat: chat({ css }), rows: rows({ css }), top: top({ css }),
      dialogs: dialogs(css).length, suggestions: all(document, css.suggestions).filter(shown).length,
      focused: !!box && (document.activeElement === box || box.contains(document.activeElement)),
      loose: loose({ css }),
    };
  };

  const listOf = (css) => {
    const panel = panelOf(css);
    const oldest = panel && css.bubble.map((each) => panel.querySelector(each)).find(Boolean);
    const scrolls = (node) =>
      node.scrollHeight > node.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(node).overflowY);
    let list = oldest ?? panel;
    while (list && !scrolls(list)) list = list.parentElement;
    return { panel, oldest, list };
  };

  // Whether the message list is at its top, and the words of the list there.
  const top = ({ css }) => {
    const { panel, list } = listOf(css);
    const reached = !list || list.scrollTop <= 0;
    return { top: reached, words: reached ? ((list ?? panel)?.innerText ?? "").slice(0, 5000) : "" };
  };

  // Waits for two frames. The page is told of a scroll with the next one, and draws what that brings with the one after
  // it; on a busy machine several reads fit before them. A hidden page draws no frames.
  const drawn = () => document.visibilityState === "hidden" ? null
    : new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

  // Scrolls the message list to its "end", "back" until the oldest row in the DOM is at the bottom of the view, or to
  // the row with this `id`, and waits until the page has drawn it.
  const scroll = async ({ css, to, id }) => {
    const { panel, oldest, list } = listOf(css);
    if (to === "end" && list) list.scrollTop = list.scrollHeight;
    if (to === "back" && oldest) oldest.scrollIntoView({ block: "end", behavior: "instant" });
    if (id) bearers(css, panel).find(([each]) => each === id)?.[1].scrollIntoView({ block: "center", behavior: "instant" });
    await drawn();
  };

  // Scrolls the chat list to its "top", or "on" by less than a view. Returns whether that moved it.
  const scrollChats = ({ css, to }) => {
    const pane = one(document, css.pane);
    const scrolls = (node) => /auto|scroll/.test(getComputedStyle(node).overflowY);
    let list = pane;
    while (list && !scrolls(list)) list = list.parentElement;
    const before = list?.scrollTop;
    if (list) list.scrollTop = to === "top" ? 0 : before + list.clientHeight * 0.8;
    return list?.scrollTop !== before;
  };

  const readers = { sight, place, census, rows, statuses, notices, chats, chat, glance, contact, loose, ready, top, scroll,
    scrollChats };
  // NUL and halves of surrogate pairs, which Postgres cannot store, are removed from every text of the page.
  const printable = (_, value) => (typeof value === "string" ? value.replace(/[\0\p{Cs}]/gu, "") : value);
  // JSON in both directions: Playwright would walk each value of an object twice, here and in its driver, which takes
  // longer than the reading itself.
  return async (question, more) => JSON.stringify(await readers[question]({ css, ...JSON.parse(more) }) ?? null, printable);
}
