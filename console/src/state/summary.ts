/** What sockets are summed up by, and the filter that finds those of a row. */

export const BY = ["process", "exe", "user", "host", "account", "unit", "container", "protocol", "rule", "instance"] as const;
export type By = (typeof BY)[number];

const TITLES: Record<By, string> = {
  process: "Process", exe: "Executable", user: "User", host: "Host", account: "Account", unit: "Unit", container: "Container", protocol: "Protocol", rule: "Rule", instance: "Socket",
};
export const titleOf = (by: By): string => TITLES[by];

interface Row {
  key: string;
  id: string | null;
  other: boolean;
}

const quoted = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`);
const user = (name: string): string => (/^\d+$/.test(name) ? `uid=${name}` : `user=${quoted(name)}`);

/** A filter for the live sockets of a row; none where its key says nothing that a socket has. */
export function termOf(by: By, { key, id, other }: Row): string | null {
  if (other || key === "?" || key === "*") return null;
  switch (by) {
    case "process": {
      const pid = /\/(\d+)$/.exec(key)?.[1];
      return pid === undefined ? null : `pid=${pid}`;
    }
    case "exe": return `exe=${quoted(key)}`;
    case "user": return user(key);
    case "host": return `remote=${key}`;
    case "account": {
      const at = key.lastIndexOf("@");
      const [name, host] = [key.slice(0, at), key.slice(at + 1)];
      return host === "*" ? user(name) : `${user(name)} and remote=${host}`;
    }
    // A unit's key is its container, where it has none.
    case "unit": return `unit=${quoted(key)} or container=${quoted(key)}`;
    case "container": return `container=${quoted(key)}`;
    case "protocol": return /^[a-z]+\d?$/.test(key) ? `proto=${key}` : null;
    case "rule": return `rule=${quoted(key)}`;
    case "instance": return id === null ? null : `id=${id}`;
  }
}
