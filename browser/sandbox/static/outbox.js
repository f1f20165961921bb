// Sends the pending messages of the profile in order, whenever there is a connection. The server deduplicates by id, so
// a message whose answer was lost may be sent again.

import { Refused } from "./api.js";
import { pass } from "./crash.js";
import * as model from "./model.js";

export class Outbox {
  /** `crash()` is called when the server's answer makes the page fail. */
  constructor(connection, book, crash) {
    Object.assign(this, { connection, book, crash, turn: Promise.resolve() });
  }

  /** Sends all pending messages, after those that are being sent already. */
  flush() {
    this.turn = this.turn.then(() => this.run());
    return this.turn;
  }

  /** Asks for the ticks that came while the page was not connected. */
  async catchUp() {
    const open = (await model.openMessages()).filter((message) => message.ack > 0);
    if (!open.length || !this.connection.online) return;
    const { acks } = await this.connection.post("receipts", { ids: open.map((message) => message.id) });
    for (const [id, ack] of Object.entries(acks)) await this.book.advance(id, ack);
  }

  async run() {
    const pending = (await model.openMessages()).filter((message) => message.ack === 0);
    for (const { id, phone, text } of pending) {
      if (!this.connection.online) return;
      try {
        const answer = await this.connection.post("send", { id, phone, text });
        if (answer.crash) return this.crash();
        pass("accepted");
        if (answer.offline || answer.banned) return;
        await this.book.advance(id, answer.ack);
      } catch (error) {
        if (!(error instanceof Refused)) return; // the connection is lost, and reconnects by itself
        if (error.status === 403) await this.book.advance(id, -1);
      }
    }
  }
}
