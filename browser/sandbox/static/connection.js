// The connection of a logged-in page: authenticates the device, listens, and reconnects after every loss.

import { listen, post, Refused } from "./api.js";
import * as keys from "./keys.js";
import { timing, wait } from "./settings.js";

export class Connection extends EventTarget {
  constructor(device, since) {
    super();
    this.device = device;
    /** returns the number of the last incoming message that the profile has */
    this.since = since;
    /** names this load of the page to the server */
    this.load = crypto.randomUUID();
    this.token = null;
    this.source = null;
    this.standing = null;
    this.ended = false;
  }

  /** Whether messages can pass at present. */
  get online() {
    return this.token !== null && this.standing !== null && !this.standing.offline && !this.standing.banned;
  }

  /** Resolves when messages can pass. */
  async whenOnline() {
    while (!this.online) await new Promise((r) => this.addEventListener("standing", r, { once: true }));
  }

  /** Posts as this device; throws what post() throws. */
  post(path, body) {
    return post(path, body, this.token);
  }

  /** Connects, and reconnects by itself after each later loss. */
  async start() {
    while (!this.ended) {
      try {
        const { device, key } = this.device;
        const { challenge } = await post("challenge", { device });
        const login = await post("login", { device, proof: await keys.prove(key, challenge) });
        this.token = login.token;
        return this.listen(login);
      } catch (error) {
        if (error instanceof Refused && error.status === 410) return this.tell("unlinked");
        this.lose();
        await wait(timing.reconnect);
      }
    }
  }

  listen(login) {
    const since = this.since() ?? login.incomingFrom;
    const on = {};
    for (const name of ["incoming", "ack"]) on[name] = (data) => this.tell(name, data);
    for (const name of ["unlinked", "conflict"]) {
      on[name] = (data) => {
        this.end();
        this.tell(name, data);
      };
    }
    on.standing = (data) => {
      this.standing = data;
      this.tell("standing", data);
    };
    const query = new URLSearchParams({ token: this.token, since, load: this.load });
    this.source = listen(`live?${query}`, on, async () => {
      this.lose();
      await wait(timing.reconnect);
      await this.start();
    });
  }

  /** Ends for good. */
  end() {
    this.ended = true;
    this.token = null;
    this.source?.close();
  }

  lose() {
    this.token = null;
    if (!this.ended) this.tell("lost");
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
