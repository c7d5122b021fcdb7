/** The History panel, against connections that this process makes and ends. */

import net from "node:net";

/** Connects, closes, and waits until that is done. */
const visit = (port) =>
  new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.on("error", reject).on("connect", () => socket.end()).on("close", resolve);
  });

export async function historyChecks({ page, check, assert, until, cli, open, picture, cells, filter, text, attempt }) {
  const heads = () => page.$$eval(".th", (all) => all.map((h) => h.textContent.replace(/[↑↓]/g, "").trim()));
  const column = async (title) => cells((await heads()).indexOf(title));
  const address = () => decodeURIComponent(page.url()).replaceAll("+", " ");
  const kind = (name) => page.locator(".history .preset", { hasText: name }).click();
  const pick = (name, value) => page.selectOption(`.history select[name=${name}]`, value);

  await check("history: a connection that ended, with its owner; its sum, and the minutes", async () => {
    const server = net.createServer((socket) => socket.resume().on("end", () => socket.end()));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address();
    for (let i = 0; i < 3; i++) await visit(port);
    server.close();
    const term = `remote_port=${port} and pid=${process.pid}`;
    const rows = async () => (await cli("history", term, "--json")).split("\n").filter(Boolean);
    await until("they are written", async () => (await rows()).length === 3);
    await open("history");
    await filter(term);
    await until("three rows", async () => (await column("Owner")).length === 3);
    assert((await column("Owner")).every((who) => who.endsWith(`/${process.pid}`)), `${await column("Owner")}`);
    assert((await column("Why")).every((why) => why === "closed"), `${await column("Why")}`);
    assert((await text("#history-count")) === "3", "the tally");
    await pick("since", "1h");
    await pick("by", "host");
    await until("one sum", async () => (await column("Host")).join() === "127.0.0.1" && (await column("Count")).join() === "3");
    assert(/kind=|filter=remote_port.*since=1h.*by=host/.test(address()), `address: ${address()}`);
    await until("the minutes", async () => (await page.locator(".history .plot canvas").count()) > 0);
    await open("flows");
    await open("history");
    await until("as it was left", async () => (await column("Host")).join() === "127.0.0.1");
    await filter("");
    await pick("by", "process");
    await until("processes", async () => (await column("Process")).length > 1);
    await picture("history");
  });

  await check("history: verdicts, rules and deeds; a mistake is pointed at", async () => {
    await cli("counters", "reset");
    await kind("Audit");
    await until("the deed", async () => (await column("What")).includes("counters.reset"));
    assert((await column("Who"))[0] === "user root", `${await column("Who")}`);
    await kind("Flows");
    await until("flows", async () => (await heads()).includes("From"));
    await attempt(async () => {
      await filter("colour=red");
      await page.waitForSelector(".filter-error");
      assert(/a field of flows/.test(await page.locator(".filter-error").innerText()), "what is expected");
      await filter("");
      await until("flows", async () => (await page.locator(".filter-error").count()) === 0);
    });
    await kind("Rules");
    await until("the table of rules", async () => (await heads()).includes("Hits"));
    await kind("Sockets");
    await until("sockets", async () => (await column("Owner")).length > 0);
    await picture("history-rows");
  });
}
