/** The Names room, and names on sockets: asked for by a real resolver, of a DNS server whose bytes are written by hand. */

import dgram from "node:dgram";
import dns from "node:dns";
import net from "node:net";
import { once } from "node:events";

/** 127.0.0.77, for every question. */
function answer(asked) {
  let end = 12;
  while (asked[end] !== 0) end += 1 + asked[end];
  end += 5;
  const said = Buffer.from(asked.subarray(0, end));
  said.writeUInt16BE(0x8180, 2);
  said.writeUInt16BE(1, 6);
  said.fill(0, 8, 12);
  return Buffer.concat([said, Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 77])]);
}

export async function nameChecks({ page, check, assert, until, cli, open, picture, cells, filter, attempt }) {
  const heads = () => page.$$eval(".th", (all) => all.map((h) => h.textContent.replace(/[↑↓]/g, "").trim()));
  const column = async (title) => cells((await heads()).indexOf(title));
  const input = () => page.locator(".filter-input").inputValue();

  const resolver = dgram.createSocket("udp4").on("message", (asked, from) => resolver.send(answer(asked), from.port, from.address));
  resolver.bind(53, "127.0.0.1");
  await once(resolver, "listening");
  const server = net.createServer().listen(4443, "127.0.0.77");
  await once(server, "listening");
  const client = new dns.promises.Resolver();
  client.setServers(["127.0.0.1"]);
  const ends = [];

  try {
    await check("names: what was resolved is listed, and leads to its sockets", async () => {
      await client.resolve4("shop.example");
      await client.resolve4("bank.example");
      const end = net.connect(4443, "127.0.0.77");
      await once(end, "connect");
      ends.push(end);
      await open("sockets");
      await page.locator(".rooms a", { hasText: "Names" }).click();
      await until("names", async () => (await heads()).includes("Answered by") && (await column("Name")).includes("shop.example"));
      await picture("sockets-names");
      await filter("address=127.0.0.77 and name=bank.example");
      await until("one of them", async () => (await column("Name")).join() === "bank.example");
      assert((await column("Answered by")).join() === "127.0.0.1", `by: ${await column("Answered by")}`);
      const [told] = (await cli("names", "name=bank.example", "--json")).split("\n").filter(Boolean).map((line) => JSON.parse(line));
      assert(told?.address === "127.0.0.77", `the command line: ${JSON.stringify(told)}`);
      await attempt(async () => {
        await filter("name=bank.example and colour=red");
        await until("an error", async () => /colour/.test(await page.locator(".filter-error").innerText({ timeout: 500 }).catch(() => "")));
        await filter("name=bank.example");
        await until("no error", async () => (await page.locator(".filter-error").count()) === 0);
      });
      await page.locator(".tr .jump", { hasText: "sockets" }).first().click();
      await until("its socket", async () => (await input()) === "name=bank.example" && (await column("Remote")).join() === "127.0.0.77:4443");
      assert((await column("Name")).join() === "bank.example", `name: ${await column("Name")}`);
      await picture("sockets-named");
    });

    await check("names: a socket's details say how its name is known", async () => {
      await page.locator(".tr .act", { hasText: "More" }).first().click();
      await page.waitForSelector("dialog");
      const words = await page.locator("dialog").innerText();
      assert(/bank\.example: as DNS answered last; the address had 1 other name then/.test(words), words);
      await page.keyboard.press("Escape");
      await filter("");
    });
  } finally {
    for (const end of ends) end.destroy();
    server.close();
    resolver.close();
  }
}
