// IndexedDB, with promises.

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** One database of the profile. */
export class Database {
  /** `upgrade` gets the database and makes its stores. */
  constructor(name, upgrade) {
    this.name = name;
    this.upgrade = upgrade;
    this.opening = null;
  }

  open() {
    this.opening ??= (async () => {
      const request = indexedDB.open(this.name, 1);
      request.onupgradeneeded = () => this.upgrade(request.result);
      return asked(request);
    })();
    return this.opening;
  }

  /** Reads with `work(store)`, which returns a request. */
  async read(store, work) {
    const database = await this.open();
    return asked(work(database.transaction(store).objectStore(store)));
  }

  /**
   * Writes with `work(...stores)`, and resolves when it is on the disk: a message that was shown as pending must
   * survive a crash. Returns what `work` returned.
   */
  async write(names, work, durability = "strict") {
    const database = await this.open();
    const transaction = database.transaction(names, "readwrite", { durability });
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const result = await work(...names.map((name) => transaction.objectStore(name)), asked);
    await done;
    return result;
  }

  /**
   * Deletes the database; the page is left after it. What is read or written from now on waits for ever: a tick that
   * comes meanwhile would make the database anew.
   */
  async delete() {
    const opened = this.open();
    this.opening = new Promise(() => {});
    (await opened).close();
    await asked(indexedDB.deleteDatabase(this.name));
  }
}
