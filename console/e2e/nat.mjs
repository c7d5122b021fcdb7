/**
 * The NAT room, against the translations of lab.mjs: `few` with sixteen ports for forty sockets, `many` with two addresses,
 * `out` masquerading, `shop` forwarding a port, and netfilter's own for 10.77.0.66.
 */

const HOSTS = /^10\.77\.0\.(2|1[1-6]|66):/;
const RULES = ["few", "many", "out", "shop"];

/** The mapping that was killed: the history knows how it ended. */
let killed;

export async function natChecks({ page, check, assert, until, cli, text, number, open, picture, cells, filter, attempt, LAB }) {
  const rows = async (...args) => (await cli("nat", ...args, "--json")).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const room = async (name, query = "") => {
    await page.evaluate((hash) => (location.hash = hash), `#/nat/${name}${query}`);
    await until(`the room ${name}`, async () => (await page.locator(`.rooms a[aria-current="page"]`).getAttribute("href")) === `#/nat/${name}`);
  };
  const titles = (column) => page.$$eval(".tr", (all, c) => all.map((r) => r.querySelectorAll(".td")[c]?.getAttribute("title") ?? ""), column);
  const exact = (title) => Number(/^([\d,]+)/.exec(title)?.[1]?.replaceAll(",", ""));
  const heads = () => page.$$eval(".th", (all) => all.map((h) => h.textContent.replace(/[↑↓]/g, "").trim()));
  const column = async (title) => (await heads()).indexOf(title);

  await check("mappings: live, with both ends, and a click narrows them", async () => {
    await open("nat");
    await until("mappings", async () => (await cells(1)).length > 5);
    assert((await cells(1)).every((inside) => HOSTS.test(inside)), `insides: ${await cells(1)}`);
    await until("rates", async () => (await cells(await column("Rate"))).some((r) => / [kM]?b\/s$/.test(r)));
    await picture("nat");
    await filter("inside=10.77.0.12 and proto=tcp");
    await until("one host's", async () => (await cells(1)).length > 0 && (await cells(1)).every((inside) => inside.startsWith("10.77.0.12:")));
    assert((await cells(2)).every((at) => /^203\.0\.113\.1[01]:\d+$/.test(at)), `publics: ${await cells(2)}`);
    const told = await rows("mappings", "inside=10.77.0.12 and proto=tcp");
    const shown = await cells(2);
    assert(told.some((m) => shown.includes(`${m.public}:${m.public_port}`)), `the command line knows others: ${told.map((m) => m.public_port)}`);
    await page.locator(".tr .td:nth-child(6)").first().click();
    await until("the term", async () => (await page.locator(".filter-input").inputValue()).endsWith(" and rule=many"));
    assert(decodeURIComponent(page.url()).replaceAll("+", " ").includes("rule=many"), "the filter is not in the address");
  });

  await check("mappings: a filter's error has a column, and the rows stay", async () => {
    const before = (await cells(1)).length;
    await attempt(async () => {
      await filter("inside=10.77.0.12 and colour=red");
      const words = await until("an error", () => page.locator(".filter-error").innerText({ timeout: 500 }).catch(() => ""));
      assert(/column \d+/.test(words) && /colour/.test(words), words);
      assert(before > 0 && (await cells(1)).length > 0, "the rows of the old filter are gone");
      await filter("");
      await until("no error", async () => (await page.locator(".filter-error").count()) === 0);
    });
  });

  await check("mappings: a click on a head sorts", async () => {
    const at = await column("Back");
    await page.locator(".th button", { hasText: "Back" }).click();
    await until("most first", async () => {
      const bytes = (await titles(at)).map(exact);
      return bytes.length > 5 && bytes.every((b, i) => i === 0 || b <= bytes[i - 1]);
    });
    await page.locator(".th button", { hasText: "Back" }).click();
    await until("least first", async () => {
      const bytes = (await titles(at)).map(exact);
      return bytes.length > 5 && bytes.every((b, i) => i === 0 || b >= bytes[i - 1]);
    });
  });

  await check("mappings: the keyboard kills one, after asking", async () => {
    await filter("inside=10.77.0.15 and proto=tcp");
    await until("its connection", async () => (await cells(1)).length > 0 && (await cells(1)).every((inside) => inside.startsWith("10.77.0.15:")));
    await page.locator(".pause").click();
    const inside = (await cells(1))[0];
    const age = await column("Age");
    const began = (await titles(age))[0];
    const doomed = (await rows("mappings", "inside=10.77.0.15 and proto=tcp")).find((m) => `${m.inside}:${m.inside_port}` === inside);
    assert(doomed, `the command line doesn't know ${inside}`);
    killed = doomed;
    await page.locator(".table").focus();
    await page.keyboard.press("Home");
    for (let i = 0; i < 20; i++) await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog");
    await page.keyboard.press("Escape");
    await until("asked and not done", async () => (await page.locator("dialog").count()) === 0);
    assert((await rows("mappings", `id=${doomed.id}`)).length === 1, "it was killed all the same");
    await page.locator(".table").focus();
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog");
    assert((await page.locator("dialog").innerText()).includes(inside), "the dialog names another");
    await picture("nat-kill");
    await page.keyboard.press("Enter");
    await until("said", async () => (await page.locator(".toast").allInnerTexts()).some((t) => /Killed 1 mapping/.test(t)));
    assert((await rows("mappings", `id=${doomed.id}`)).length === 0, "it lives");
    await page.locator(".pause").click();
    // The connection goes on, by a mapping of its own that began later.
    await until("gone from the table", async () => {
      const at = (await cells(1)).indexOf(inside);
      return at < 0 || (await titles(age))[at] !== began;
    });
    await filter("");
  });

  await check("the brackets go from room to room", async () => {
    await page.locator(".table").focus();
    await page.keyboard.press("]");
    await until("rules", () => page.url().endsWith("#/nat/rules"));
    await page.keyboard.press("[");
    await page.keyboard.press("[");
    await until("round the corner", () => page.url().endsWith("#/nat/who"));
  });

  // What the page shows lies between what the command line says before and after: accounts only grow.
  for (const [name, key] of [["rules", "name"], ["hosts", "host"]]) {
    await check(`${name}: accounts are those of the command line`, async () => {
      await room(name);
      await until("rows", async () => (await cells(0)).length >= 4);
      const before = await rows(name);
      const [packets, sent, back] = [await column("Packets"), await column("Sent"), await column("Back")];
      await page.waitForTimeout(2500);
      const shown = await page.$$eval(".tr", (all, at) => all.map((r) => at.map((c) => r.querySelectorAll(".td")[c].title || r.querySelectorAll(".td")[c].textContent)), [0, packets, sent, back]);
      const after = await rows(name);
      for (const [id, , bytes, reply] of shown) {
        const who = id.split("\n")[0];
        const [low, high] = [before, after].map((list) => list.find((r) => r[key] === who));
        if (!low || !high) continue;
        assert(exact(bytes) >= low.bytes && exact(bytes) <= high.bytes, `${who}: ${bytes} isn't from ${low.bytes} to ${high.bytes}`);
        assert(exact(reply) >= low.reply_bytes && exact(reply) <= high.reply_bytes, `${who}: ${reply} isn't from ${low.reply_bytes} to ${high.reply_bytes}`);
      }
      const known = shown.filter(([id]) => before.some((r) => r[key] === id.split("\n")[0])).length;
      assert(known >= (name === "rules" ? RULES.length : 7), `only ${known} are known to both`);
      await picture(`nat-${name}`);
    });
  }

  await check("pools: exhaustion is marked, there and everywhere", async () => {
    await room("pools");
    const full = page.locator(".tr", { hasText: "203.0.113.9" });
    await until("exhausted", async () => (await full.count()) === 1 && (await full.innerText()).includes("exhausted"));
    const meter = full.locator("[role=meter]");
    assert((await meter.getAttribute("aria-valuenow")) === "16" && (await meter.getAttribute("aria-valuemax")) === "16", "sixteen of sixteen");
    const failed = exact(await full.locator(".td").nth(await column("Failed")).getAttribute("title"));
    assert(failed > 0, "none failed");
    assert((await page.locator(".tr.exhausted").count()) === 1, "others are marked, too");
    assert(/1 pool is exhausted/.test(await text(".warning")), "the warning");
    assert(/1 exhausted/.test(await text(".rooms .n.warn")), "the badge of the room");
    await until("the alarm", async () => (await page.locator("#alarms").count()) === 1, 30_000);
    await picture("nat-pools");
    await page.locator("#alarms").click();
    await until("in words", async () => /203\.0\.113\.9/.test(await page.locator(".overview .alarms").innerText({ timeout: 500 }).catch(() => "")));
    assert((await number("#tile-ports")) === 1, "the overview's tile");
    assert((await number("#tile-nat")) > 0, "no mappings on the overview");
    assert(/%$/.test(await text("#tile-table")), "the table's pressure");
    await page.locator(".overview .alarms a").click();
    await until("back to the pools", () => page.url().endsWith("#/nat/pools"));
  });

  await check("who was it: the form names the host, and the address can be sent on", async () => {
    const [mapping] = await rows("mappings", "inside=10.77.0.12 and proto=tcp", "--limit", "1");
    const of = `${mapping.public}:${mapping.public_port}`;
    await room("who");
    await page.locator("[name=of]").fill(of);
    await page.locator("[name=proto]").selectOption("tcp");
    await page.locator("[name=of]").press("Enter");
    await until("the host", async () => (await page.locator(".answer .host").allInnerTexts()).includes("10.77.0.12"));
    assert((await page.locator(".answer .path").first().innerText()).includes(of), "the public endpoint");
    const url = page.url();
    assert(decodeURIComponent(url).includes(of), `not in the address: ${url}`);
    await picture("nat-who");
    await page.locator("[name=at]").fill("2020-01-01T00:00:00Z");
    await page.locator("[name=at]").press("Enter");
    await until("nobody then", async () => /Nobody is known/.test(await page.locator(".answers").innerText()));
    assert(/whole from/.test(await text(".answers .warning")), "what was forgotten isn't said");
    await page.goBack();
    await until("the answer before", async () => (await page.locator(".answer .host").allInnerTexts()).includes("10.77.0.12"));
  });

  await check("who was it: what has ended is known, with its end and its totals", async () => {
    await room("who", `?of=${killed.public}%3A${killed.public_port}&proto=tcp&at=${encodeURIComponent(killed.last)}`);
    const answer = page.locator(".answer", { hasText: killed.inside }).filter({ hasText: "ended: killed" });
    const head = `${killed.public}:${killed.public_port}, tcp,`;
    await until("an answer", async () => (await page.locator(".answers .card-head").innerText()).includes(head));
    const words = await page.locator(".answers").innerText();
    assert((await answer.count()) === 1, `${killed.id} of ${killed.inside}, last seen ${killed.last}: ${words}`);
    assert(exact(await answer.locator(".totals").getAttribute("title")) >= killed.bytes, "less than it had when it lived");
  });

  await check("who was it: what can't be read is said", async () => {
    const ask = async (of, at) => {
      await page.locator("[name=of]").fill(of);
      await page.locator("[name=at]").fill(at);
      await page.locator("[name=of]").press("Enter");
    };
    const alert = (like) => until(`${like}`, async () => like.test(await page.locator(".panel > .problem").innerText({ timeout: 500 }).catch(() => "")));
    await ask("203.0.113.1:99999", "");
    await alert(/65535/);
    await attempt(async () => {
      await ask("gate:80", "");
      await alert(/expected an address/);
      await ask("203.0.113.1:80", "last tuesday");
      await alert(/RFC 3339/);
    });
  });

  if (LAB.includes("netfilter")) {
    await check("netfilter's mappings are marked, can't be killed, and are in the history", async () => {
      await room("mappings", "?filter=origin%3Dnetfilter");
      await until("netfilter's", async () => (await cells(1)).length > 0 && (await cells(5)).every((rule) => rule === "netfilter"));
      assert((await cells(1)).every((inside) => inside.startsWith("10.77.0.66:")), `insides: ${await cells(1)}`);
      assert((await page.locator(".tr button").count()) === 0, "they can be killed");
      const [mapping] = await rows("mappings", "origin=netfilter and proto=tcp", "--limit", "1");
      await room("who", `?of=${mapping.public}%3A${mapping.public_port}&proto=tcp`);
      await until("marked", async () => (await page.locator(".answer .tag.netfilter").count()) > 0);
      assert((await page.locator(".answer", { has: page.locator(".tag.netfilter") }).first().innerText()).includes("10.77.0.66"), "another host");
      await room("mappings", "?filter=");
    });
  }

  await check("flows show their translation, and what is left of their time", async () => {
    await page.evaluate(() => (location.hash = "#/flows?filter=nat%3Dtrue"));
    await until("translated flows", async () => (await cells(await column("NAT"))).length > 5 && (await cells(await column("NAT"))).every((nat) => /^(from|to) \S+:\d+/.test(nat)));
    assert((await cells(await column("Left"))).some((left) => /^\d+[hm] /.test(left)), `left: ${await cells(await column("Left"))}`);
    await page.locator(".presets button", { hasText: "All" }).click();
  });

  await check("events of translations lead to the mapping and to its rule", async () => {
    await open("events");
    await page.locator(".presets button", { hasText: "NAT" }).click();
    await until("translations", async () => (await cells(1)).length > 3 && (await cells(1)).every((c) => c === "nat"));
    assert((await cells(4)).every((rule) => RULES.includes(rule)), `rules: ${await cells(4)}`);
    await page.locator(".pause").click();
    await picture("events-nat");
    await page.locator(".tr .jump", { hasText: "mapping" }).first().click();
    await until("the mapping", () => /#\/nat\/mappings\?filter=id%3D[0-9a-f]+$/.test(page.url()));
    await open("events");
    await page.locator(".pause").click();
    await page.locator(".presets button", { hasText: "Drops" }).click();
  });

  await check("a translation is added, disabled and deleted; its account stays", async () => {
    await room("mappings", "?filter=");
    await room("rules");
    await page.getByRole("button", { name: "Add a translation" }).click();
    await page.locator("dialog textarea").fill("nat second destination on wan tcp to 203.0.113.1 port 81 => 10.77.0.2 port 8080");
    await page.locator("dialog").getByRole("button", { name: "Add", exact: true }).click();
    const row = page.locator(".tr", { hasText: "second" });
    await until("the row", async () => (await row.count()) === 1);
    await row.getByRole("button", { name: "Disable" }).click();
    await until("off", async () => row.evaluate((r) => r.classList.contains("off")));
    const shop = page.locator(".tr", { hasText: "shop" });
    const made = async () => exact(await shop.locator(".td").nth(await column("Mappings")).getAttribute("title"));
    const before = await made();
    assert(before > 0, "nothing was made");
    await shop.getByRole("button", { name: "Delete" }).click();
    await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
    await until("gone from the policy", async () => (await shop.innerText()).includes("no longer in the policy"));
    assert((await made()) >= before, "its account is gone, too");
    await picture("nat-rules-gone");
    await cli("rule", "delete", "second");
    // What is added is based on the policy that the page knows.
    await until("the other gone", async () => (await row.count()) === 0 || (await row.innerText()).includes("no longer in the policy"));
    await page.getByRole("button", { name: "Add a translation" }).click();
    await page.locator("dialog textarea").fill("nat shop destination on wan tcp to 203.0.113.1 port 80 => 10.77.0.2 port 8080");
    await page.locator("dialog textarea").press("Enter");
    await until("back", async () => (await shop.count()) === 1 && !(await shop.innerText()).includes("no longer in the policy"));
    assert((await made()) >= before, "it began at zero");
  });

  await check("rules that pass without tracking are marked", async () => {
    await open("rules");
    await until("the mark", async () => (await page.locator(".tr", { hasText: "syslog" }).locator(".tag").allInnerTexts()).includes("no-track"));
    assert((await page.locator(".tr .tag").count()) === 1, "others are marked, too");
  });
}
