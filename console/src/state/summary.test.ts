import { describe, expect, test } from "vitest";
import { BY, termOf, titleOf, type By } from "./summary";

const term = (by: By, key: string, id: string | null = null) => termOf(by, { key, id, other: false });

describe("the filter of a row", () => {
  test("finds its sockets", () => {
    expect(term("process", "a/b/77", "5f")).toBe("pid=77");
    expect(term("exe", "/usr/bin/curl")).toBe("exe=/usr/bin/curl");
    expect(term("exe", "/opt/my app")).toBe('exe="/opt/my app"');
    expect(term("user", "root")).toBe("user=root");
    expect(term("user", "1000")).toBe("uid=1000");
    expect(term("host", "2001:db8::1")).toBe("remote=2001:db8::1");
    expect(term("account", "www@2001:db8::1")).toBe("user=www and remote=2001:db8::1");
    expect(term("account", "1000@*")).toBe("uid=1000");
    expect(term("unit", "nginx.service")).toBe("unit=nginx.service or container=nginx.service");
    expect(term("container", "0a1b")).toBe("container=0a1b");
    expect(term("protocol", "tcp")).toBe("proto=tcp");
    expect(term("rule", "default in")).toBe('rule="default in"');
    expect(term("instance", "tcp *:80", "2a")).toBe("id=2a");
  });
  test("is none where the key says nothing", () => {
    for (const by of BY) for (const key of ["?", "*"]) expect(term(by, key)).toBeNull();
    for (const by of BY) expect(termOf(by, { key: "other", id: null, other: true })).toBeNull();
    expect(term("rule", "other"), "a rule may have that name").toBe("rule=other");
    expect(term("protocol", "raw/89")).toBeNull();
    expect(term("process", "nobody")).toBeNull();
  });
  test("every way has a title", () => {
    expect(BY.map(titleOf).every((title) => /^[A-Z]/.test(title))).toBe(true);
  });
});
