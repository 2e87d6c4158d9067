// tus-js-client as a process that may be killed at any moment: sends one file to its end, from where the upload stands
// whose URL the library keeps in a file. A line on stdin stops it; it says "aborted" and goes on with a new upload object.
//
// Arguments: the library's folder, and {endpoint, token, file, urls, chunk} as JSON.

import { createReadStream, statSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [library, order] = process.argv.slice(2);
const { endpoint, token, file, urls, chunk } = JSON.parse(order);
const tus = createRequire(import.meta.url)(library);
const AGAIN_MS = Array(400).fill(50);

let upload;

async function send() {
  upload = new tus.Upload(createReadStream(file), {
    endpoint,
    chunkSize: chunk,
    uploadSize: statSync(file).size,
    headers: { Authorization: `Bearer ${token}` },
    metadata: { filename: "talk ü.mp4" },
    retryDelays: AGAIN_MS,
    urlStorage: new tus.FileUrlStorage(urls),
    removeFingerprintOnSuccess: false,
    onSuccess: () => process.exit(0),
    onError: (error) => {
      console.error(String(error));
      process.exit(1);
    },
  });
  const [known] = await upload.findPreviousUploads();
  if (known) upload.resumeFromPreviousUpload(known);
  upload.start();
}

createInterface({ input: process.stdin }).on("line", async () => {
  await upload.abort();
  console.log("aborted");
  await send();
});
await send();
