// Requests to the page's server.

/** An answer that is not 2xx. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail);
    this.status = status;
    this.code = problem.code;
  }
}

/** Posts JSON and returns JSON; throws Refused, or TypeError when the server cannot be reached. */
export async function post(path, body, token) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json().catch(() => ({ detail: response.statusText, code: "unreadable" }));
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

/** Listens to server-sent events: `on` maps their names to functions of their data; `lost` is called on an error. */
export function listen(path, on, lost) {
  const source = new EventSource(`api/${path}`);
  for (const [name, act] of Object.entries(on)) {
    source.addEventListener(name, (event) => act(JSON.parse(event.data)));
  }
  source.onerror = () => {
    source.close();
    lost();
  };
  return source;
}
