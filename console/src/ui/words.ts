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
