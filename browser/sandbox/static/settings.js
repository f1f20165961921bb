// The page's settings, which the server sends, and waiting.

/** Durations by name, in milliseconds; see timing.py. */
export const timing = JSON.parse(document.documentElement.dataset.timing);

/** Resolves after so many milliseconds. */
export const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
