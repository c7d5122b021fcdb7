/** The Sockets room, against the programs of traffic.mjs, and against what this very process does. */

import net from "node:net";

const WEB = "rule=web and local_port=8443";

/** Connects to where nobody listens. */
const refused = (port) => new Promise((resolve) => net.connect(port, "127.0.0.1").on("error", resolve).on("connect", resolve));

export async function socketChecks({ page, check, assert, until, cli, text, open, picture, cells, filter, attempt }) {
  const rows = async (...args) => (await cli("sockets", ...args, "--json")).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const heads = () => page.$$eval(".th", (all) => all.map((h) => h.textContent.replace(/[↑↓]/g, "").trim()));
  const column = async (title) => cells((await heads()).indexOf(title));
  const titles = async (title) => page.$$eval(".tr", (all, c) => all.map((r) => r.querySelectorAll(".td")[c]?.getAttribute("title") ?? ""), (await heads()).indexOf(title));
  const input = () => page.locator(".filter-input").inputValue();
  const address = () => decodeURIComponent(page.url()).replaceAll("+", " ");
  const click = async (title) => page.locator(".tr").first().locator(".td").nth((await heads()).indexOf(title)).click();
  const asked = [];
  page.on("request", (request) => /\/api\/v1\/sockets/.test(request.url()) && asked.push(request.url()));

  await check("sockets: a listener and its connections, with owner and rule", async () => {
    await open("sockets");
    await until("sockets", async () => (await cells(0)).length > 5);
    // What was there before may be the rows of another panel.
    await until("a listener", async () => (await column("State")).includes("listen"));
    await picture("sockets");
    await filter(WEB);
    await until("connections", async () => (await column("Rule")).length > 0 && (await column("Rule")).every((rule) => rule === "web"));
    const [connection] = await rows(WEB);
    assert(connection, "the command line knows none");
    const owner = `${connection.comm}/${connection.pid}`;
    assert((await column("Owner")).every((who) => who === owner), `${await column("Owner")} isn't ${owner}`);
    assert((await titles("Owner")).every((tip) => tip.includes("stamped: certain")), "how sure that is");
    assert((await column("Local")).every((end) => end.endsWith(":8443")), `local ends: ${await column("Local")}`);
    assert((await column("State")).every((state) => state === "established"), `states: ${await column("State")}`);
    await until("rates", async () => (await column("Out")).some((speed) => / [kM]?B\/s$/.test(speed)));
    await filter(`state=listen and local_port=8443 and pid=${connection.pid}`);
    await until("the listener", async () => (await column("Local")).length === 1 && (await column("Local"))[0] === "*:8443");
    assert((await column("Owner"))[0] === owner, "the listener's owner");
    await filter("");
  });

  await check("sockets: a click on a cell narrows, a click on a head sorts, and the address keeps both", async () => {
    await filter(WEB);
    await until("connections", async () => (await column("Rule")).length > 0 && (await column("Rule")).every((rule) => rule === "web"));
    await click("Owner");
    await until("the term", async () => / and comm=\S+$/.test(await input()));
    await filter("state=established");
    await until("connections", async () => (await column("State")).every((state) => state === "established"));
    const exact = async () => (await titles("Received")).map((tip) => Number(/^([\d,]+) B/.exec(tip)?.[1]?.replaceAll(",", "")));
    const head = page.locator(".th button", { hasText: "Received" });
    await head.click();
    await until("most first", async () => (await exact()).length > 3 && (await exact()).every((b, i, all) => i === 0 || b <= all[i - 1]));
    await head.click();
    await until("least first", async () => (await exact()).length > 3 && (await exact()).every((b, i, all) => i === 0 || b >= all[i - 1]));
    assert(/filter=state=established&sort=-received_bytes/.test(address()), `address: ${address()}`);
    await open("flows");
    await open("sockets");
    await until("as it was left", async () => (await input()) === "state=established" && /sort=-received_bytes/.test(address()));
    await head.click();
    await until("the server's order", async () => !/sort=/.test(address()) && (await page.locator(".th[aria-sort]").count()) === 0);
  });

  await check("sockets: the keyboard opens the details; they lead to the flow and to the rule", async () => {
    await filter(WEB);
    await until("connections", async () => (await column("Rule")).length > 0 && (await column("Rule")).every((rule) => rule === "web"));
    await page.locator(".table").focus();
    await page.keyboard.press("Home");
    for (let i = 0; i < 20; i++) await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.waitForSelector("dialog");
    const words = await page.locator("dialog").innerText();
    assert(/as descriptor \d+/.test(words) && /certain: noted/.test(words) && /the daemon's own/.test(words), words);
    await picture("sockets-details");
    await until("attributes", async () => /exe file.*stamped by the kernel/s.test(await text("#socket-attributes")));
    await until("it over time", async () => (await page.locator("#socket-over canvas").count()) >= 3);
    await picture("sockets-over");
    await page.locator("#socket-note").fill("ask Ada");
    await page.locator("#socket-note").press("Enter");
    const noted = (await page.locator("dialog dl").first().locator("dd").last().innerText()).trim();
    await until("the note", async () => (await cli("socket", "show", noted)).includes("ask Ada  (operator)"));
    await picture("sockets-attributes");
    const flow = page.locator("dialog a", { hasText: /^[0-9a-f]{8,}$/ });
    const id = await flow.innerText();
    await flow.click();
    await until("its flow", async () => (await input()) === `id=${id}` && (await column("Rule")).length === 1 && (await column("Rule"))[0] === "web");
    await filter("");
    await open("sockets");
    await until("connections", async () => (await cells(0)).length > 0);
    await page.locator(".tr .jump", { hasText: "rule" }).first().click();
    await until("its rule", async () => (await page.locator(".tr.here").count()) === 1 && (await page.locator(".tr.here").innerText()).includes("web"));
  });

  await check("sockets: those that have ended say why, failures in another tone", async () => {
    await refused(9);
    await open("sockets");
    await page.locator(".rooms a", { hasText: "Ended" }).click();
    await until("the room", () => page.url().includes("#/sockets/ended"));
    const mine = `pid=${process.pid} and remote_port=9`;
    await filter(mine);
    await until("the refused one", async () => (await column("Why")).includes("refused"));
    assert((await column("Remote"))[0] === "127.0.0.1:9", `remote: ${await column("Remote")}`);
    assert((await column("Owner"))[0].endsWith(`/${process.pid}`), `owner: ${await column("Owner")}`);
    assert(/^\d\d:\d\d:\d\d$/.test((await column("Ended"))[0]), "when");
    assert((await page.locator(".tr .warn-text", { hasText: "refused" }).count()) > 0, "the tone");
    const [told] = await rows(mine, "--ended");
    assert(told?.ended === "refused", `the command line: ${JSON.stringify(told)}`);
    await click("Why");
    await until("the term", async () => (await input()) === `${mine} and ended=refused`);
    await page.locator(".presets button", { hasText: "Failed" }).click();
    await until("failures alone", async () => (await column("Why")).includes("dropped") && (await column("Why")).every((why) => why !== "closed"));
    assert((await column("Rule")).some((rule) => rule === "telnet" || rule === "finger"), `which rule refused: ${await column("Rule")}`);
    await picture("sockets-ended");
    await page.locator(".table").focus();
    await page.keyboard.press("[");
    await until("the living", () => /#\/sockets\?/.test(page.url()));
    await filter("");
  });

  await check("sockets: what goes beside the filter is marked", async () => {
    await filter("comm=ping");
    await until("pings", async () => (await column("Proto")).some((proto) => proto.startsWith("raw/")));
    assert((await page.locator(".tr.noted .tag.warn", { hasText: "own headers" }).count()) > 0, "no mark");
    assert((await titles("Remote")).some((tip) => /headers of its own making/.test(tip)), "not in words");
    await filter("");
  });

  await check("sockets: one is ended from its details, and nobody else", async () => {
    const server = net.createServer((peer) => peer.on("error", () => {}));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address();
    const broken = [];
    const connect = () => {
      const client = net.connect(port, "127.0.0.1");
      client.on("error", (error) => broken.push(error.code));
      return client;
    };
    const [doomed, other] = [connect(), connect()];
    await until("connections", () => doomed.localPort && other.localPort);
    await filter(`pid=${process.pid} and local_port=${doomed.localPort}`);
    await until("it alone", async () => (await cells(0)).length === 1);
    await page.locator(".tr").first().locator("button", { hasText: "More" }).click();
    await page.locator("#socket-kill").click();
    await picture("sockets-kill");
    await page.locator("#socket-kill-now").click();
    await until("the outcome", async () => /was ended/.test(await text("#socket-killed")));
    await until("an error of its owner's", () => broken.length === 1);
    assert(!other.destroyed && other.readyState === "open", "the other one went, too");
    await page.keyboard.press("Escape");
    await page.locator(".rooms a", { hasText: "Ended" }).click();
    await until("why", async () => (await column("Why")).includes("killed"));
    other.destroy();
    server.close();
    await page.locator(".rooms a", { hasText: "Live" }).click();
    await until("the living", () => !page.url().includes("ended"));
    await filter("");
  });

  await check("sockets: rules are proposed for an owner, and what they refuse is told", async () => {
    const server = net.createServer((peer) => peer.on("error", () => {}));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address();
    const client = net.connect(port, "127.0.0.1");
    await until("a connection", () => client.localPort);
    await filter(`pid=${process.pid} and local_port=${client.localPort}`);
    await until("it alone", async () => (await cells(0)).length === 1);
    await page.locator(".tr").first().locator("button", { hasText: "More" }).click();
    await page.locator("[data-learn=exe]").click();
    await until("the rules", async () => (await text("#socket-learnt")).includes(`exe ${process.execPath}`));
    const learnt = await text("#socket-learnt");
    assert(/^rule \S+ allow out tcp to .*port .*$/m.test(learnt), learnt);
    assert(/^rule \S+-rest-out reject out log exe /m.test(learnt), learnt);
    await page.locator("#learn-past").check();
    await page.locator("[data-learn=exe]").click();
    await until("the history, too", async () => /of the history since/.test(await text("#socket-learnt")));
    await picture("sockets-learn");
    await page.keyboard.press("Escape");
    await cli("rule", "add", `rule no-calls drop out tcp to port ${port} exe ${process.execPath}`);
    const error = await new Promise((resolve) => net.connect(port, "127.0.0.1").on("error", resolve));
    assert(error.code === "EPERM", `${error.code} isn't EPERM`);
    await filter(`pid=${process.pid}`);
    await page.locator(".rooms a", { hasText: "Ended" }).click();
    await until("it is denied", async () => (await column("Why")).includes("denied"));
    await open("events");
    await page.locator(".filter-input").fill("class=call");
    await page.keyboard.press("Enter");
    await until("calls alone", async () => (await column("Event")).length > 0 && (await column("Event")).every((event) => event === "call"));
    assert((await column("Rule")).includes("no-calls"), "the rule that refused it");
    await picture("events-calls");
    await cli("rule", "delete", "no-calls");
    client.destroy();
    server.close();
    await page.locator(".filter-input").fill("");
    await page.keyboard.press("Enter");
    await open("sockets");
    await page.locator(".rooms a", { hasText: "Live" }).click();
    await filter("");
  });

  await check("sockets: summaries by process, executable, host; a row leads to its sockets", async () => {
    await page.locator(".rooms a", { hasText: "Summary" }).click();
    await until("processes", async () => (await column("Process")).length > 3);
    await picture("sockets-summary");
    await page.locator(".presets button", { hasText: "Host" }).click();
    await until("hosts", async () => (await heads()).includes("Host") && (await column("Host")).includes("127.0.0.1"));
    await page.locator(".presets button", { hasText: "Executable" }).click();
    await until("programs", async () => (await heads()).includes("Executable") && (await column("Executable")).some((exe) => exe.endsWith("/node")));
    const told = JSON.parse((await cli("summary", "by", "exe", "--json")).split("\n")[0]);
    assert(told.key.startsWith("/") && told.total > 0, JSON.stringify(told));
    await page.locator(".tr a", { hasText: /\/node$/ }).first().click();
    await until("its sockets", async () => /^exe=\S+node$/.test(await input()) && (await cells(0)).length > 0);
    await filter("");
  });

  await check("sockets: summaries by rule, account and socket are filtered, and begin anew one by one", async () => {
    const button = (name) => page.locator(".presets.many button", { hasText: new RegExp(`^${name}$`) });
    await open("sockets/summary");
    await button("Rule").click();
    await until("rules", async () => (await heads()).includes("Rule") && (await column("Rule")).includes("web"));
    assert(/sockets\/summary\?by=rule$/.test(address()), `address: ${address()}`);
    await filter("rule=web and live>0");
    await until("one rule", async () => (await column("Rule")).join() === "web");
    await picture("sockets-summary-rule");
    const [live, all] = (await column("Connected"))[0].split(" / ").map((n) => Number(n.replaceAll(",", "")));
    assert(live > 0 && all >= live, `connections: ${live} of ${all}`);
    const [told] = (await cli("summary", "by", "rule", "--filter", "rule=web", "--json")).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    assert(told.connections >= all, `the command line: ${told.connections}, ${all}`);
    await attempt(async () => {
      await filter("rule=web and colour=red");
      await until("an error", async () => /colour/.test(await page.locator(".filter-error").innerText({ timeout: 500 }).catch(() => "")));
      await filter("");
    });
    await button("Account").click();
    await until("accounts", async () => (await column("Account")).some((key) => key === "root@127.0.0.1"));
    await button("Socket").click();
    await until("sockets", async () => (await column("Socket")).some((key) => /^tcp \S+:\d+ > \S+:\d+$/.test(key)));
    await picture("sockets-summary-instance");
    await filter(`key~":8443 >" and live>0`);
    await until("connections", async () => (await column("Socket")).length > 0 && (await column("Socket")).every((key) => key.includes(":8443 > ")));
    await page.locator(".tr a").first().click();
    await until("that socket", async () => /^id=[0-9a-f]+$/.test(await input()));
    await filter("");
    await page.evaluate(() => (location.hash = "#/sockets/summary?by=rule"));
    await until("rules", async () => (await column("Rule")).includes("web"));
    await page.locator("#summary-anew").click();
    await page.locator("#summary-anew-now").click();
    const total = async () => Number((await column("All"))[(await column("Rule")).indexOf("web")]?.replaceAll(",", ""));
    await until("fewer than before", async () => (await total()) < told.total);
    await button("Process").click();
    await until("processes", async () => (await heads()).includes("Process") && (await column("Process")).length > 3);
    const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert(widths[0] <= widths[1], `it is wider than the page: ${widths}`);
    await page.locator(".rooms a", { hasText: "Live" }).click();
    await until("the living", async () => !page.url().includes("summary") && (await cells(0)).length > 0);
  });

  await check("sockets: the account adds up", async () => {
    await until("the badge", async () => /events lost\s+[\d,]+$/.test(await text("#sockets-account")));
    assert(Number((await text("#socket-descriptors")).replaceAll(",", "")) > 0, "descriptors");
    await page.locator("#sockets-account").click();
    const drops = () => page.$$eval("#socket-drops tr", (all) => all.map((r) => [...r.cells].map((c) => c.textContent)));
    await until("what the stack dropped", async () => (await drops()).some(([, packets]) => Number(packets?.replaceAll(",", "")) > 0));
    const lines = await page.$$eval("dialog tbody:not(#summary-tables, #socket-drops) tr", (all) => all.map((r) => [...r.cells].map((c) => c.textContent)));
    assert(lines.some(([, produced]) => produced !== "0"), "nothing was told");
    for (const [name, ...numbers] of lines) {
      const [produced, delivered, lost] = numbers.map((n) => Number(n.replaceAll(",", "")));
      assert(produced === delivered + lost, `${name}: ${numbers}`);
    }
    await page.keyboard.press("Escape");
  });

  await check("sockets: a filter's error has a column, and the rows stay", async () => {
    await until("sockets", async () => (await cells(0)).length > 0);
    await attempt(async () => {
      await filter("state=listen and colour=red");
      const words = await until("an error", () => page.locator(".filter-error").innerText({ timeout: 500 }).catch(() => ""));
      assert(/column \d+/.test(words) && /colour/.test(words), words);
      assert((await cells(0)).length > 0, "the rows of the old filter are gone");
      await filter("");
      await until("no error", async () => (await page.locator(".filter-error").count()) === 0);
    });
  });

  await check("sockets: nobody asks while it is paused, or not looked at", async () => {
    const quiet = async (what) => {
      await page.waitForTimeout(500); // what is on its way may come
      const before = asked.length;
      await page.waitForTimeout(4500);
      assert(asked.length === before, `${what}: ${asked.slice(before)}`);
    };
    const before = asked.length;
    await until("polls", () => asked.length > before);
    await page.locator(".pause").click();
    await quiet("paused");
    await page.locator(".pause").click();
    const paused = asked.length;
    await until("polls again", () => asked.length > paused);
    await open("status");
    await quiet("in another room");
  });
}
