/**
 * The console in a real browser, against a real daemon.
 *
 * With SLUICE_URL in the environment that daemon is used as it is, traffic is the caller's business, and these say the rest:
 *   SLUICE_URL     http://127.0.0.1:8470
 *   SLUICE_TOKEN   the daemon's token
 *   SLUICE_BIN     the `sluice` binary, for the command line's part
 *   SLUICE_SOCKET  its control socket
 *   LAB            `nat` where the translations of lab.mjs are in force, `nat netfilter` where netfilter's are, too
 *   SCREENSHOT     where the picture of the overview goes (default: none); `-flows`, `-dark` ... are put before `.png`
 *   CHROMIUM       the browser (default /usr/bin/chromium)
 * Without it, a gate of its own with traffic is made first (root and SLUICE_BIN needed): see lab.mjs.
 *
 * Prints `ok - NAME` or `not ok - NAME` a check; exits with 1 if one failed.
 */

import { execFile } from "node:child_process";
import net from "node:net";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { historyChecks } from "./history.mjs";
import { withLab } from "./lab.mjs";
import { nameChecks } from "./names.mjs";
import { natChecks } from "./nat.mjs";
import { setChecks } from "./sets.mjs";
import { socketChecks } from "./sockets.mjs";

const run = promisify(execFile);
const WAIT_MS = 20_000;
const PLACES = ["overview", "flows", "sockets", "sockets/ended", "sockets/summary", "sockets/names", "nat/mappings", "nat/rules", "nat/hosts", "nat/pools", "nat/who", "rules", "rules/sets", "events", "status", "paths", "history"];

let failed = 0;

/** One check: a line, and no exception that ends the others. */
async function check(name, body) {
  const began = Date.now();
  try {
    await body();
    console.log(`ok - ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    return true;
  } catch (error) {
    failed += 1;
    console.log(`not ok - ${name}`);
    for (const line of String(error?.stack ?? error).split("\n").slice(0, 12)) console.log(`  # ${line}`);
    return false;
  }
}

function assert(condition, message) {
  if (!condition) throw new Error(message);
}

/** Waits until `probe` gives something true. */
async function until(what, probe, ms = WAIT_MS) {
  const end = Date.now() + ms;
  let seen;
  while (Date.now() < end) {
    seen = await probe();
    if (seen) return seen;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what}: not within ${ms / 1000} s (last seen: ${JSON.stringify(seen)})`);
}

/** A way to the daemon that can be cut, the way a cable is: open connections die, new ones are refused. */
async function cuttable(host, port) {
  const pairs = new Set();
  let cut = false;
  const server = net.createServer((near) => {
    if (cut) return near.resetAndDestroy();
    const far = net.connect(port, host);
    const pair = [near, far];
    pairs.add(pair);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("error", () => {});
      from.on("close", () => {
        to.destroy();
        pairs.delete(pair);
      });
      from.pipe(to);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: server.address().port,
    cut() {
      cut = true;
      for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
    },
    mend: () => void (cut = false),
    close: () => server.close(),
  };
}

async function main(env) {
  const url = new URL(env.SLUICE_URL);
  const line = await cuttable(url.hostname.replace(/^\[|\]$/g, ""), Number(url.port || 80));
  const browser = await chromium.launch({
    executablePath: env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
      // The page's address, Host and Origin stay the daemon's own; only the wire goes through `line`.
      `--host-resolver-rules=MAP ${url.hostname}:${url.port} 127.0.0.1:${line.port}`,
    ],
  });
  try {
    await checks(browser, line, url, env);
  } finally {
    await browser.close();
    line.close();
  }
}

async function checks(browser, line, url, env) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
  await context.addInitScript(() => {
    window.__violations = [];
    document.addEventListener("securitypolicyviolation", (e) => window.__violations.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sample}`));
  });
  const page = await context.newPage();
  const problems = [];
  let outage = false;
  let after401 = false;
  const elsewhere = [];
  page.on("pageerror", (error) => problems.push(`exception: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    const text = message.text();
    // The browser notes these by itself; here they are what is meant to happen.
    if (/status of 401/.test(text) && !after401) return;
    if (outage && /ERR_|WebSocket|Failed to load/.test(text)) return;
    problems.push(`${message.type()}: ${text}`);
  });
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.origin !== url.origin) elsewhere.push(request.url());
  });

  const cli = async (...args) => {
    const { stdout } = await run(env.SLUICE_BIN, args, { env: { ...process.env, SLUICE_SOCKET: env.SLUICE_SOCKET }, timeout: 30_000 });
    return stdout;
  };
  const text = (selector) => page.locator(selector).first().innerText();
  const number = async (selector) => Number((await text(selector)).replaceAll(",", ""));
  const open = async (panel) => {
    await page.locator(`nav a[href="#/${panel}"]`).click();
    // The address changes before the page does: the link is marked in the same step as the panel is shown.
    await page.locator(`nav a[href="#/${panel}"][aria-current="page"]`).first().waitFor({ timeout: WAIT_MS });
  };
  const picture = async (suffix) => {
    if (!env.SCREENSHOT) return;
    await page.screenshot({ path: suffix === "" ? env.SCREENSHOT : env.SCREENSHOT.replace(/(\.png)?$/, `-${suffix}.png`) });
  };
  const live = () => until("link is live", async () => (await page.locator("#link").getAttribute("data-phase")) === "live", 60_000);
  const cells = (column) =>
    page.$$eval(".tr:not(.banner)", (rows, c) => rows.map((r) => r.querySelectorAll(".td")[c]?.textContent ?? ""), column);
  const filter = async (value) => {
    await page.locator(".filter-input").fill(value);
    await page.locator(".filter-input").press("Enter");
  };

  const response = await page.goto(url.href);
  const entered =
    (await check("strict content security policy", async () => {
      const csp = response.headers()["content-security-policy"] ?? "";
      assert(/default-src 'self'/.test(csp), `default-src 'self' missing: ${csp}`);
      assert(!/unsafe|data:|\*/.test(csp), `loosened: ${csp}`);
    })) &
    (await check("a wrong token is refused in words", async () => {
      await page.waitForSelector("#token", { timeout: WAIT_MS });
      await picture("login");
      await page.fill("#token", "0".repeat(64));
      await page.click("button[type=submit]");
      const words = await until("an alert", () => page.locator("[role=alert]").innerText({ timeout: 500 }).catch(() => ""));
      assert(words.length > 8, `too short: ${words}`);
    })) &
    (await check("the token logs in and stays out of the address", async () => {
      await page.fill("#token", env.SLUICE_TOKEN);
      await page.click("button[type=submit]");
      await page.waitForSelector("nav", { timeout: WAIT_MS });
      after401 = true;
      await live();
      assert(!page.url().includes(env.SLUICE_TOKEN), "token in the address");
      const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
      assert(!kept.includes(env.SLUICE_TOKEN), "token kept in the page");
    }));
  if (!entered) return;

  await check("the overview counts flows and draws rates", async () => {
    await until("flows on the overview", async () => (await number("#tile-flows")) > 0);
    await until("rates", async () => !(await text(".tile-value")).includes("–"));
    assert((await page.locator(".chart").count()) === 3, "three charts");
    await until("something drawn", () =>
      page.$eval(".plot canvas", (canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size > 3;
      }));
    assert(/^[\d,]+$/.test(await text("#lost b")), "the badge has an exact number");
  });

  let rules = 0;
  await check("flows appear in the table", async () => {
    await open("flows");
    await until("rows", async () => (await cells(0)).length > 0);
    const shown = await page.locator(".tr").count();
    assert(shown < 120, `${shown} rows in the document: not virtual`);
    assert((await number("#flow-count")) > 0, "count");
  });

  await check("a filter is read by the server; its errors have a column; the old one stays", async () => {
    await filter("proto=tcp");
    await until("only tcp", async () => {
      const protos = await cells(0);
      return protos.length > 0 && protos.every((p) => p === "tcp");
    });
    await filter("proto=tcp and bytes >");
    const words = await until("an error", () => page.locator(".filter-error").innerText({ timeout: 500 }).catch(() => ""));
    assert(/column \d+/.test(words), `no column: ${words}`);
    const protos = await cells(0);
    assert(protos.length > 0 && protos.every((p) => p === "tcp"), "the rows of the old filter are gone");
    await picture("filter-error");
    await page.locator(".presets button", { hasText: "All" }).click();
    await until("no error", async () => (await page.locator(".filter-error").count()) === 0);
  });

  await check("a click on a cell narrows the filter", async () => {
    await until("rows", async () => (await cells(0)).length > 0);
    const value = (await cells(0))[0];
    await page.locator(".tr .td").first().click();
    await until("the term", async () => (await page.locator(".filter-input").inputValue()) === `proto=${value}`);
    assert(decodeURIComponent(page.url()).includes(`proto=${value}`), "the filter is in the address");
    await page.locator(".presets button", { hasText: "All" }).click();
  });

  await check("the keyboard moves, narrows and pauses", async () => {
    await until("rows", async () => (await cells(0)).length > 0);
    await page.locator(".table").focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowRight");
    assert((await page.locator(".td.cursor").count()) === 1, "one cell is current");
    await page.keyboard.press("Enter");
    await until("the term", async () => /^(src|sport|dst)=/.test(await page.locator(".filter-input").inputValue()));
    await page.keyboard.press("p");
    assert((await page.locator(".pause").getAttribute("aria-pressed")) === "true", "paused");
    await page.keyboard.press("p");
    await page.keyboard.press("/");
    assert(await page.locator(".filter-input").evaluate((e) => e === document.activeElement), "/ goes to the filter");
    await filter("");
  });

  await check("a paused table stands still", async () => {
    await until("rows", async () => (await cells(0)).length > 0);
    await page.locator(".pause").click();
    const all = () => page.$$eval(".tr", (rows) => rows.map((r) => r.textContent).join("\n"));
    await page.waitForTimeout(700);
    const before = await all();
    await page.waitForTimeout(2500);
    assert((await all()) === before, "rows changed");
    await page.locator(".pause").click();
    await until("rows move again", async () => (await all()) !== before);
    if (env.SCREENSHOT) await page.waitForTimeout(3000); // rates need two tellings
    await picture("flows");
  });

  const probe = `probe-${process.pid}`;
  if (env.SLUICE_BIN) {
    await check("a rule added by the command line shows up without reload", async () => {
      await open("rules");
      await until("rules", async () => (rules = (await cells(1)).length) > 0);
      const generation = await number("#generation b");
      await page.evaluate(() => (window.__same = true));
      await cli("rule", "add", `rule ${probe} allow in tcp to port 65001`);
      await until("the rule", async () => (await cells(1)).includes(probe));
      await until("a newer generation", async () => (await number("#generation b")) > generation);
      assert(await page.evaluate(() => window.__same === true), "the page was loaded anew");
      await picture("rules");
    });
    await check("a rule is disabled and deleted from the console", async () => {
      const row = page.locator(".tr", { hasText: probe });
      await row.getByRole("button", { name: "Disable" }).click();
      await until("off", () => row.evaluate((r) => r.classList.contains("off")));
      await row.getByRole("button", { name: "Delete" }).click();
      await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
      await until("gone", async () => !(await cells(1)).includes(probe));
      assert((await cells(1)).length === rules, "the other rules stayed");
      assert(!(await cli("rules", "--json")).includes(probe), "the command line still lists it");
    });
  }

  await check("drops come with reason and rule, and lead to the rule", async () => {
    await open("events");
    await until("a drop by a rule", async () => (await cells(4)).some((r) => r !== ""));
    assert((await cells(3)).every((r) => r !== ""), "each has a reason");
    assert((await cells(2)).every((v) => v === "drop" || v === "reject"), "only drops");
    await picture("events");
    await page.locator(".pause").click();
    const link = page.locator(".tr:not(.banner) .td:nth-child(5) a").filter({ hasText: /./ }).first();
    const name = await link.innerText();
    await link.click();
    await until("the rule's row", async () => {
      const here = page.locator(".tr.here");
      return (await here.count()) === 1 && (await here.innerText()).includes(name);
    });
    await open("events");
    await page.locator(".pause").click();
  });

  await check("a feed that was scrolled down stays where it is while lines come", async () => {
    await until("enough lines", () => page.locator(".table").evaluate((t) => t.scrollHeight > t.clientHeight + 300));
    await page.locator(".table").evaluate((t) => (t.scrollTop = 240));
    const top = () =>
      page.evaluate(() => {
        const table = document.querySelector(".table");
        const row = [...table.querySelectorAll(".tr")].find((r) => r.getBoundingClientRect().top >= table.getBoundingClientRect().top + 28);
        return row.textContent;
      });
    await page.waitForTimeout(300);
    const [line, place] = [await top(), await page.locator(".table").evaluate((t) => t.scrollTop)];
    await until("new lines above", async () => (await page.locator(".table").evaluate((t) => t.scrollTop)) > place);
    assert((await top()) === line, "another line is at the top");
  });

  await check("a rule that can't be read comes back with its diagnostic", async () => {
    await open("rules");
    await page.getByRole("button", { name: "Add a rule" }).click();
    await page.locator("dialog textarea").fill("rule broken allow in tpc to port 1");
    after401 = false;
    outage = true; // the browser notes the 422
    await page.locator("dialog").getByRole("button", { name: "Add", exact: true }).click();
    const words = await until("a diagnostic", () => page.locator("dialog .problem").innerText({ timeout: 500 }).catch(() => ""));
    assert(/tpc/.test(words) && words.includes("^"), words);
    await picture("diagnostic");
    await page.keyboard.press("Escape");
    await until("closed", async () => (await page.locator("dialog").count()) === 0);
    outage = false;
    after401 = true;
  });

  if (env.LAB) {
    /** Runs what makes the daemon answer with an error, which the browser notes by itself. */
    const attempt = async (body) => {
      [after401, outage] = [false, true];
      try {
        await body();
      } finally {
        [after401, outage] = [true, false];
      }
    };
    const tools = { page, check, assert, until, cli, text, number, open, picture, cells, filter, attempt };
    await socketChecks(tools);
    await nameChecks(tools);
    await setChecks(tools);
    await historyChecks(tools);
    await natChecks({ ...tools, LAB: env.LAB.split(" ") });
  }

  await check("the status names interfaces, hooks and epoch", async () => {
    await open("status");
    await until("an interface", async () => (await page.locator(".status-panel .hook").count()) >= 2);
    assert((await text("#epoch")).length > 0, "epoch");
    await picture("status");
  });

  await check("a cut line is said, and mended by itself", async () => {
    // A stream that is resumed, and a room that asks again.
    const places = env.LAB ? ["flows", "nat/hosts"] : ["flows"];
    for (const place of places) {
      await page.evaluate((p) => (location.hash = `#/${p}`), place);
      await until(`rows of ${place}`, async () => (await cells(0)).length > 0);
      outage = true;
      line.cut();
      await until("the outage is said", async () => (await page.locator(".outage").count()) === 1);
      assert((await page.locator("#link").getAttribute("data-phase")) !== "live", "link");
      assert((await cells(0)).length > 0, `${place}: what was known stays in view`);
      if (place === "flows") await picture("outage");
      await page.waitForTimeout(1500);
      line.mend();
      await live();
      outage = false;
      assert((await page.locator(".outage").count()) === 0, "the outage is still said");
      await until(`rows of ${place}`, async () => (await cells(0)).length > 0);
      const stamp = () => page.$$eval(".tr", (rows) => rows.map((r) => r.textContent).join());
      const before = await stamp();
      await until(`rows of ${place} move again`, async () => (await stamp()) !== before);
    }
    await open("status");
    assert((await number("#reconnects")) === places.length, `reconnects: ${await text("#reconnects")}`);
  });

  await check("nothing is cut off at 800 pixels, nor on a telephone", async () => {
    for (const [width, height] of [[800, 900], [390, 844]]) {
      await page.setViewportSize({ width, height });
      for (const place of PLACES) {
        await page.evaluate((p) => (location.hash = `#/${p}`), place);
        await page.waitForTimeout(400);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert(over <= 0, `${place} at ${width}: ${over} px too wide`);
        const badge = await page.locator("#lost").boundingBox();
        assert(badge && badge.x >= 0 && badge.x + badge.width <= width, `${place} at ${width}: the badge is out of view`);
        if (env.SCREENSHOT) await page.waitForTimeout(1000);
        await picture(`${width}-${place.replace("/", "-")}`);
      }
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  await check("the overview once more, light and dark", async () => {
    await open("overview");
    await page.waitForTimeout(env.SCREENSHOT ? 8000 : 500);
    await picture("");
    await page.emulateMedia({ colorScheme: "dark" });
    await page.waitForTimeout(500);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert(background.match(/\d+/g).slice(0, 3).every((v) => Number(v) < 64), `not dark: ${background}`);
    await picture("dark");
  });

  await check("logging out asks for the token again", async () => {
    after401 = false;
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForSelector("#token", { timeout: WAIT_MS });
    await page.reload();
    await page.waitForSelector("#token", { timeout: WAIT_MS });
  });

  await check("nothing was loaded from elsewhere, no violation, no error", async () => {
    const violations = await page.evaluate(() => window.__violations);
    assert(violations.length === 0, violations.join("\n"));
    assert(elsewhere.length === 0, elsewhere.join("\n"));
    assert(problems.length === 0, problems.join("\n"));
  });
}

const env = { ...process.env };
try {
  if (env.SLUICE_URL) await main(env);
  else failed += await withLab(env, new URL(import.meta.url).pathname);
} catch (error) {
  failed += 1;
  console.log("not ok - the browser test itself");
  for (const l of String(error?.stack ?? error).split("\n")) console.log(`  # ${l}`);
}
process.exit(failed === 0 ? 0 : 1);
