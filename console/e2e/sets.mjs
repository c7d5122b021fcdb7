/** The room of live sets: what a set holds, entries in and out, and what the daemon says of one that can't be. */

export async function setChecks({ page, check, assert, until, cli, open, picture, cells, attempt }) {
  const entries = async () => (await page.locator('[aria-label="Entries of blocked"] .tr').allInnerTexts()).map((row) => row.split("\n")[0].trim());
  const dialog = page.locator("dialog");
  const told = async () => (await cli("--json", "set", "show", "blocked")).split("\n").filter(Boolean).map((line) => JSON.parse(line).entry);

  await check("sets: entries are added, found, and deleted from the console", async () => {
    await open("rules");
    await page.locator(".rooms a", { hasText: "Live sets" }).click();
    await until("the sets", async () => (await cells(0)).includes("blocked") && (await cells(0)).includes("odd"));
    await until("none", async () => (await page.locator('[aria-label="Entries of blocked"]').innerText()).includes("It holds nothing."));
    await page.getByRole("button", { name: "Add entries" }).click();
    await dialog.locator("textarea").fill("192.0.2.7, 198.51.100.0/24\n2001:db8::/32");
    await dialog.locator("input[name=timeout]").fill("10m");
    await dialog.getByRole("button", { name: "Add", exact: true }).click();
    await until("three", async () => (await entries()).join() === "192.0.2.7,198.51.100.0/24,2001:db8::/32");
    assert((await told()).join() === (await entries()).join(), `the command line: ${await told()}`);
    await cli("set", "add", "blocked", "192.0.2.8");
    await until("a fourth, from the command line", async () => (await entries()).includes("192.0.2.8"));
    await picture("sets");
    const find = page.locator(".filter-input.find");
    await find.fill("198.51.100.9");
    await until("what holds it", async () => (await entries()).join() === "198.51.100.0/24");
    await find.fill("");
    await until("all", async () => (await entries()).length === 4);
    const row = page.locator('[aria-label="Entries of blocked"] .tr', { hasText: "192.0.2.8" });
    await row.hover();
    await row.getByRole("button", { name: "Delete" }).click();
    await until("three again", async () => (await entries()).length === 3);
    assert(!(await told()).includes("192.0.2.8"), "the command line still lists it");
  });

  await check("sets: what can't be an entry is told, and all can be deleted at once", async () => {
    await attempt(async () => {
      await page.getByRole("button", { name: "Add entries" }).click();
      await dialog.locator("textarea").fill("192.0.2.9 192.0.2.7/24");
      await dialog.getByRole("button", { name: "Add", exact: true }).click();
      const words = await until("an alert", () => dialog.locator("[role=alert]").innerText({ timeout: 500 }).catch(() => ""));
      assert(/bits set behind its prefix/.test(words), words);
      await page.keyboard.press("Escape");
      await until("closed", async () => (await dialog.count()) === 0);
    });
    assert((await told()).length === 3, "all or none");
    await page.getByRole("button", { name: "Delete all" }).click();
    await dialog.getByRole("button", { name: "Delete all" }).click();
    await until("nothing", async () => (await told()).length === 0);
    await page.locator(".tr .jump", { hasText: "odd" }).click();
    await until("the other set", async () => (await page.locator('[aria-label="Entries of odd"] .tr').count()) === 1);
    assert(page.url().endsWith("#/rules/sets?set=odd"), page.url());
  });
}
