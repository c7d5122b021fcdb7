/** Writes terms of Sluice's filter language; reading it is the server's business. Pure. */

/** A term to add when a cell is clicked. */
export interface Term {
  field: string;
  value: string | number;
}

/** Quotes what isn't a bare word of the language. Between quotes everything stands for itself, so a quote can't be written. */
export function quote(value: string | number): string {
  const text = String(value);
  return /^[\p{L}\p{N}.:/_+%@*-]+$/u.test(text) && !/^(and|or|not)$/.test(text) ? text : `"${text.replaceAll('"', "")}"`;
}

export const termText = (term: Term, not = false): string => `${term.field}${not ? "!=" : "="}${quote(term.value)}`;

/** `current and term`; parentheses where `current` has an `or` at its top. Adding a term twice changes nothing. */
export function narrow(current: string, term: Term, not = false): string {
  const text = termText(term, not);
  const base = current.trim();
  if (base === "") return text;
  if (base === text || base.startsWith(`${text} and `) || base.endsWith(` and ${text}`) || base.includes(` and ${text} and `)) return base;
  return `${topLevelOr(base) ? `(${base})` : base} and ${text}`;
}

function topLevelOr(text: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (c === "(") depth += 1;
    else if (c === ")") depth -= 1;
    else if (depth === 0 && text.startsWith("||", i)) return true;
    else if (depth === 0 && /^or\b/i.test(text.slice(i)) && /(^|[\s)])$/.test(text.slice(0, i))) return true;
  }
  return false;
}
