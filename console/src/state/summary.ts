/** What sockets are summed up by, and the filter that finds those of a row. */

export const BY = ["process", "exe", "user", "host", "unit", "protocol"] as const;
export type By = (typeof BY)[number];

const TITLES: Record<By, string> = { process: "Process", exe: "Executable", user: "User", host: "Host", unit: "Unit", protocol: "Protocol" };
export const titleOf = (by: By): string => TITLES[by];

const quoted = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`);

/** A filter for the live sockets of a row; none where its key says nothing that a socket has. */
export function termOf(by: By, key: string): string | null {
  if (key === "other" || key === "?" || key === "*") return null;
  switch (by) {
    case "process": {
      const pid = /\/(\d+)$/.exec(key)?.[1];
      return pid === undefined ? null : `pid=${pid}`;
    }
    case "exe": return `exe=${quoted(key)}`;
    case "user": return /^\d+$/.test(key) ? `uid=${key}` : `user=${quoted(key)}`;
    case "host": return `remote=${key}`;
    // A unit's key is its container, where there is one.
    case "unit": return `unit=${quoted(key)} or container=${quoted(key)}`;
    case "protocol": return /^[a-z]+\d?$/.test(key) ? `proto=${key}` : null;
  }
}
