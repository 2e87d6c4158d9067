import assert from "node:assert/strict";
import { test } from "node:test";
import { destination } from "../src/core/destination.ts";

const BOX = "https://box:8000";

test("a login leads to the page that was asked for", () => {
  assert.equal(destination("/admin#/jobs/x", BOX), `${BOX}/admin#/jobs/x`);
  assert.equal(destination(null, BOX), `${BOX}/`);
});

test("a login never leads away from the box", () => {
  const forms = [
    "//elsewhere.example/", "/\\elsewhere.example/", "https://elsewhere.example/", "/.//elsewhere.example/",
    "/x/..//elsewhere.example/", `${BOX}//elsewhere.example/`, "\t//elsewhere.example/", "javascript:alert(1)",
    "data:text/html,x", `blob:${BOX}//elsewhere.example/`, "https://box:8000@elsewhere.example/", "https://[", "",
  ];
  for (const form of forms) {
    // What the browser makes of the answer on the login page is what counts.
    assert.equal(new URL(destination(form, BOX), `${BOX}/login`).origin, BOX, form);
    assert.match(destination(form, BOX), /^https:/, form);
  }
});
