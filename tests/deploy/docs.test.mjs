// Every page's links, pictures and file names lead somewhere, and the example of docs/links.md is a link.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { sign } from "../../docs/signers/sign.mjs";
import { ROOT } from "./harness.mjs";

const tracked = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: ROOT, encoding: "utf8" }).trim().split("\n");
const pages = tracked.filter((file) => file.endsWith(".md"));
const read = (file) => fs.readFileSync(path.join(ROOT, file), "utf8");
const anchors = (file) => [...read(file).matchAll(/^#+ (.+)$/gm)].map(([, title]) => title.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-"));

test("every_link_and_picture_of_the_pages_is_there", () => {
  let seen = 0;
  for (const page of pages) {
    for (const [, markdown, html] of read(page).matchAll(/\]\(([^)\s]+)\)|src="([^"]+)"/g)) {
      const link = markdown ?? html;
      if (/^https?:/.test(link)) continue;
      const [file, anchor] = link.split("#");
      const target = file ? path.join(path.dirname(page), file) : page;
      assert.ok(fs.existsSync(path.join(ROOT, target)), `${page}: ${link}`);
      if (anchor) assert.ok(anchors(target).includes(anchor), `${page}: ${link}`);
      seen += 1;
    }
  }
  assert.ok(seen > 40, String(seen));
});

test("every_file_that_the_pages_name_is_there", () => {
  // Made by a build, or by the operator.
  const made = /^(edge\/build|deploy\/containers\/(secrets|tls))\b/;
  for (const page of pages.filter((page) => page !== "CHANGELOG.md")) {
    for (const [, file] of read(page).matchAll(/(?<![\w/.-])((?:docs|edge|origin|shared|scripts|tests|deploy|models|fuzz)\/[\w./-]*\w)/g)) {
      const there = [file, `${file}.rs`, file.replace(/^(edge|origin|shared)\//, "$1/src/"), `${file.replace(/^(edge|origin|shared)\//, "$1/src/")}.rs`];
      assert.ok(made.test(file) || there.some((one) => fs.existsSync(path.join(ROOT, one))), `${page}: ${file}`);
    }
  }
});

test("the_index_names_every_page", () => {
  const index = read("README.md");
  for (const page of pages.filter((page) => page !== "README.md")) assert.ok(index.includes(`(${page})`), page);
});

test("the_example_of_the_links_page_is_what_a_signer_makes", () => {
  const example = /signet-link-v1\n((?: {4}.+\n)+)\ngives `(sig=[\w-]+)`/.exec(read("docs/links.md"));
  const [key, ...params] = example[1].trim().split(/\n */);
  const { dl, ep, exp } = Object.fromEntries(params.map((line) => line.split("=")));
  const ring = `k1:${Buffer.from(Array.from({ length: 32 }, (_, byte) => byte)).toString("base64")}`;
  const link = sign(ring, key.slice(1), Number(exp), Number(exp) - 3600, { dl, ep });
  assert.equal(link, `${key}?${[...params, example[2]].join("&")}`);
});
