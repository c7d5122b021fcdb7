/** What short names mean, in a sentence. */

/** Reasons, as `sluice` counts them. A name that isn't here is shown as it is. */
const REASONS: Record<string, string> = {
  "no-policy": "passed: no policy was ever installed",
  rule: "a rule decided",
  default: "no rule matched; the direction's default decided",
  established: "belongs to a known flow; the rules were skipped",
  arp: "ARP always passes",
  "neighbour-discovery": "IPv6 neighbour discovery always passes",
  related: "an ICMP error about a known flow",
  "unknown-ethertype": "neither IPv4, IPv6 nor ARP; the policy's ethertypes option decided",
  "truncated-ethernet": "shorter than an Ethernet header",
  "truncated-vlan": "ends within a VLAN tag",
  "too-many-vlans": "a third VLAN tag",
  "truncated-ipv4": "ends within the IPv4 header",
  "bad-ipv4-version": "says it is IPv4, its version field doesn't",
  "bad-ipv4-header-length": "IPv4 header length below 20 bytes",
  "bad-ipv4-total-length": "IPv4 total length is a lie",
  "truncated-ipv6": "ends within the IPv6 header or an extension header",
  "bad-ipv6-version": "says it is IPv6, its version field doesn't",
  "bad-ipv6-payload-length": "IPv6 payload length past the frame's end",
  "too-many-extension-headers": "more IPv6 extension headers than the parser follows",
  "truncated-tcp": "ends within the TCP header",
  "bad-tcp-data-offset": "TCP data offset is a lie",
  "truncated-udp": "ends within the UDP header",
  "bad-udp-length": "UDP length is a lie",
  "truncated-icmp": "ends within the ICMP header",
  "fragment-without-first": "a later fragment whose first was not seen",
  "bad-fragment": "a fragment past 65,535 bytes, or over its own header",
  "flow-table-full": "the flow table is full and the policy refuses new flows then",
  untracked: "the flow table is full: passed without being tracked",
  closed: "FIN seen both ways",
  reset: "RST seen",
  "timed-out": "idle past its time-out",
  "policy-changed": "a newer policy doesn't allow it",
  "unknown-interface": "the interface isn't Sluice's; passed",
  "reject-rate-limited": "to be rejected, but the rate limit for answers was spent: dropped in silence",
  "reject-impossible": "to be rejected, but this packet may not be answered: dropped in silence",
  "no-syn": "a TCP segment without a flow and without SYN",
  reused: "a new flow took its addresses and ports",
  killed: "removed by an operator",
  "truncated-transport": "ends within an SCTP or UDP-Lite header",
  "out-of-window": "a TCP segment whose numbers don't fit what both ends have sent and allowed",
  "nat-exhausted": "no public port was left for a new mapping",
  "nat-local-port": "every public port that was tried for the translation is a local socket's",
  "nat-impossible": "has to be translated and can't be: its checksum forbids it, or the interface has no address",
  "source-limit": "its source has as many flows as the policy grants",
  evicted: "unanswered, it made room for a newer flow",
  "syn-cookie-sent": "a SYN that was answered with a cookie",
  "syn-cookie-good": "an ACK with a good cookie: the flow begins",
  "syn-cookie-bad": "an ACK without a good cookie, while cookies are asked for",
  bypassed: "handed to an AF_XDP socket",
  "fast-path": "forwarded past the stack",
  "no-track": "let by without tracking, because a rule says so",
  "over-limit": "over the limit of the rule that let its flow in",
  "flow-table-busy": "two CPUs wanted one lock of the flow table for too long: judged, not tracked",
};

export const reasonWords = (reason: string): string => REASONS[reason] ?? reason;

const HOOKS: Record<string, string> = {
  xdp: "XDP, in the driver",
  "xdp-generic": "XDP, in the network stack",
  tcx: "TC (tcx)",
  clsact: "TC (clsact)",
  none: "not attached",
};

export const hookWords = (hook: string): string => HOOKS[hook] ?? hook;

const KINDS: Record<string, string> = {
  masquerade: "source translated to the address of the interface it leaves through",
  source: "source translated to an address of the policy",
  destination: "destination translated to an address inside",
  redirect: "destination translated to the machine itself",
  static: "one to one, both ways",
  "static-out": "one to one: source translated on the way out",
  "static-in": "one to one: destination translated on the way in",
  "prefix-out": "IPv6 prefix of the source translated on the way out",
  "prefix-in": "IPv6 prefix of the destination translated on the way in",
  block: "source translated into its host's block of ports",
};

/** What a kind of translation does. */
export const kindWords = (kind: string): string => KINDS[kind] ?? kind;

/** What a rule does beside its action, where its text says so. */
const MARKS: Record<string, string> = {
  "no-track": "packets pass without a flow: no state, no answers by themselves",
  "syn-cookies": "SYNs are answered with cookies; flows begin with the handshake's end",
  xsk: "packets go to an AF_XDP socket instead of the stack",
};

/** The marks of a rule as written, `[word, meaning]` each. Its name and what stands in braces or quotes is none. */
export function ruleMarks(text: string): [string, string][] {
  const words = text.replace(/"[^"]*"|\{[^}]*\}/g, " ").split(/\s+/).slice(2);
  return Object.entries(MARKS).filter(([word]) => words.includes(word));
}
