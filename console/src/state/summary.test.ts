import { describe, expect, test } from "vitest";
import { BY, termOf, titleOf } from "./summary";

describe("the filter of a row", () => {
  test("finds its sockets", () => {
    expect(termOf("process", "a/b/77")).toBe("pid=77");
    expect(termOf("exe", "/usr/bin/curl")).toBe("exe=/usr/bin/curl");
    expect(termOf("exe", "/opt/my app")).toBe('exe="/opt/my app"');
    expect(termOf("user", "root")).toBe("user=root");
    expect(termOf("user", "1000")).toBe("uid=1000");
    expect(termOf("host", "2001:db8::1")).toBe("remote=2001:db8::1");
    expect(termOf("unit", "nginx.service")).toBe("unit=nginx.service or container=nginx.service");
    expect(termOf("protocol", "tcp")).toBe("proto=tcp");
  });
  test("is none where the key says nothing", () => {
    for (const by of BY) for (const key of ["other", "?", "*"]) expect(termOf(by, key)).toBeNull();
    expect(termOf("protocol", "raw/89")).toBeNull();
    expect(termOf("process", "nobody")).toBeNull();
  });
  test("every way has a title", () => {
    expect(BY.map(titleOf).every((title) => /^[A-Z]/.test(title))).toBe(true);
  });
});
