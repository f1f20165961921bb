// A peer: Express and BullMQ, one job for each message: node server.js PORT REDIS_PORT.
import { Queue } from "bullmq";
import express from "express";

const [port, redis] = process.argv.slice(2).map(Number);
const queue = new Queue("send", { connection: { host: "127.0.0.1", port: redis } });
await queue.waitUntilReady();

const app = express();
app.use(express.json());
app.post("/send", async (request, response) => {
  const { phone, message, account, idempotencyKey } = request.body;
  const job = await queue.add("send", { phone, message, account }, { jobId: idempotencyKey });
  response.status(202).json({ status: "queued", jobId: job.id });
});
app.listen(port, "127.0.0.1");
