//! Every state, every combination of flags, both directions; and a few lives in full.

use super::*;
use TcpState::*;

const PSH: u8 = 0x08;
const URG: u8 = 0x20;

/// What a segment is to a state machine, by FIN, SYN, RST and ACK; PSH and URG change nothing (they say
/// how data is delivered, RFC 9293 section 3.9.1). The reasons:
///
/// - RST is looked at before SYN and FIN (section 3.10.7.3 "second", 3.10.7.4 "second").
/// - SYN with FIN is sent by nobody since RFC 1644 is historic; netfilter's `tcp_valid_flags` has it
///   invalid, and `begins` lets it begin nothing.
/// - Without ACK only a first SYN and a RST mean anything (section 3.10.7.4 "fifth": drop).
const KINDS: &str = "
    ----  odd        F---  odd
    -S--  syn        FS--  odd
    --R-  rst        F-R-  rst
    -SR-  rst        FSR-  rst
    ---A  ack        F--A  fin-ack
    -S-A  syn-ack    FS-A  odd
    --RA  rst-ack    F-RA  rst-ack
    -SRA  rst-ack    FSRA  rst-ack
";

/// The state after a segment, `.` for the same. After RFC 9293 section 3.3.2 for the pair of ends, and
/// netfilter's `tcp_conntracks` where a middle box has to choose; they part in places, with reasons:
///
/// - (a) A SYN on a connection in progress is a retransmission, or asks for an ACK (RFC 5961 section 4).
/// - (b) Simultaneous open: each end's SYN has to be acknowledged by the other, by SYN-ACK or ACK.
///   netfilter waits for a plain ACK of the originator instead, which may never come.
/// - (c) SYN-SENT: an ACK without SYN is an old connection's (section 3.5.1, figure 9), a FIN is dropped
///   ("fourth"), a RST counts only with an ACK ("second").
/// - (d) The originator may say FIN with the ACK that ends the handshake, the responder may close before
///   it has come (SYN-RECEIVED, CLOSE call: section 3.10.4).
/// - (e) What is over stays over: a new SYN begins another flow (`is_over`), and netfilter's way back
///   from TIME-WAIT is that.
/// - (f) `none` stands in no record of TCP (`first` gives none): as though the flow began here.
const NEXT: &str = "
    state           from   syn       syn-ack         fin-ack     ack             rst    rst-ack  odd
    none            orig   syn-sent  syn-both-acked  fin-wait    established     reset  reset    .    f
    none            reply  syn-both  syn-received    close-wait  established     reset  reset    .    f
    syn-sent        orig   .         .               .           .               reset  reset    .    a
    syn-sent        reply  syn-both  syn-received    .           .               .      reset    .    bc
    syn-received    orig   .         established     fin-wait    established     reset  reset    .    abd
    syn-received    reply  .         .               close-wait  .               reset  reset    .    ad
    syn-both        orig   .         syn-both-acked  fin-wait    syn-both-acked  reset  reset    .    bd
    syn-both        reply  .         syn-received    close-wait  syn-received    reset  reset    .    bd
    syn-both-acked  orig   .         .               fin-wait    .               reset  reset    .    bd
    syn-both-acked  reply  .         established     close-wait  established     reset  reset    .    bd
    established     orig   .         .               fin-wait    .               reset  reset    .    a
    established     reply  .         .               close-wait  .               reset  reset    .    a
    fin-wait        orig   .         .               .           .               reset  reset    .    a
    fin-wait        reply  .         .               closed      .               reset  reset    .    a
    close-wait      orig   .         .               closed      .               reset  reset    .    a
    close-wait      reply  .         .               .           .               reset  reset    .    a
    closed          orig   .         .               .           .               reset  reset    .    e
    closed          reply  .         .               .           .               reset  reset    .    e
    reset           orig   .         .               .           .               .      .        .    e
    reset           reply  .         .               .           .               .      .        .    e
";

/// What begins a flow, with pick-up and without; the state it begins in.
const FIRST: &str = "
    kind     strict  pickup  state
    syn      yes     yes     syn-sent
    syn-ack  no      yes     syn-both-acked
    fin-ack  no      yes     fin-wait
    ack      no      yes     established
    rst      no      no      -
    rst-ack  no      no      -
    odd      no      no      -
";

const ALL: [TcpState; 10] = [
    None,
    SynSent,
    SynReceived,
    Established,
    FinOrig,
    FinReply,
    Closed,
    Reset,
    SynBoth,
    SynBothAcked,
];

/// Cells of a table, line by line.
fn lines(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|cells: &Vec<_>| !cells.is_empty())
}

fn kind(flags: u8) -> &'static str {
    let letter = |flag: u8, letter: char| if flags & flag != 0 { letter } else { '-' };
    let name: String =
        [letter(FIN, 'F'), letter(SYN, 'S'), letter(RST, 'R'), letter(ACK, 'A')].iter().collect();
    let mut cells = lines(KINDS).flatten();
    cells.find(|cell| *cell == name).expect("all sixteen are in the table");
    cells.next().expect("a kind behind each")
}

/// All 64 combinations.
fn combinations() -> impl Iterator<Item = u8> {
    const { assert!(FIN | SYN | RST | PSH | ACK | URG == 0x3f) };
    0..0x40
}

#[test]
fn every_state_flag_and_direction() {
    let mut table = lines(NEXT);
    let head = table.next().expect("a head");
    let mut seen = 0;
    let mut wrong = String::new();
    for row in table {
        let state = *ALL.iter().find(|state| state.name() == row[0]).expect("a state");
        let reply = row[1] == "reply";
        for flags in combinations() {
            let column = head.iter().position(|cell| *cell == kind(flags)).expect("a column");
            let expected = if row[column] == "." { row[0] } else { row[column] };
            let found = next(state, reply, flags).name();
            if found != expected {
                wrong += &format!("\n{} {} {flags:06b}: {found}, not {expected}", row[0], row[1]);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, ALL.len() * 2 * 64, "a row for each state and direction");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_may_begin_a_flow() {
    for flags in combinations() {
        let row = lines(FIRST).find(|row| row[0] == kind(flags)).expect("a row");
        assert_eq!(begins(flags, false), row[1] == "yes", "{flags:06b}");
        assert_eq!(begins(flags, true), row[2] == "yes", "{flags:06b} with pick-up");
        if row[3] != "-" {
            assert_eq!(first(flags).name(), row[3], "{flags:06b}");
        }
    }
}

#[test]
fn numbers_and_names_are_one_to_one() {
    for state in ALL {
        assert_eq!(TcpState::from_raw(state as u8), state);
        assert_eq!(ALL.iter().filter(|other| other.name() == state.name()).count(), 1);
    }
    assert!((ALL.len() as u8..=u8::MAX).all(|raw| TcpState::from_raw(raw) == None));
}

fn walk(steps: &[(bool, u8)]) -> TcpState {
    let (_, flags) = steps[0];
    steps[1..].iter().fold(first(flags), |s, (reply, flags)| next(s, *reply, *flags))
}

#[test]
fn open_talk_close() {
    let open = [(false, SYN), (true, SYN | ACK), (false, ACK)];
    assert_eq!(walk(&open[..1]), SynSent);
    assert_eq!(walk(&open[..2]), SynReceived);
    assert_eq!(walk(&open), Established);
    let mut all = open.to_vec();
    all.push((true, FIN | ACK));
    assert_eq!(walk(&all), FinReply);
    all.push((false, ACK));
    assert_eq!(walk(&all), FinReply);
    all.push((false, FIN | ACK));
    assert_eq!(walk(&all), Closed);
}

#[test]
fn both_may_open_at_once() {
    let (a, b) = (false, true);
    assert_eq!(walk(&[(a, SYN), (b, SYN)]), SynBoth);
    // Either may be the first to acknowledge, and says so again where that got lost.
    for (one, other) in [(a, b), (b, a)] {
        let mut steps = vec![(a, SYN), (b, SYN), (one, SYN | ACK), (one, SYN | ACK)];
        assert!(walk(&steps).is_handshake(), "one end alone opens nothing");
        steps.push((other, SYN | ACK));
        assert_eq!(walk(&steps), Established);
    }
    // Taken up at the SYN-ACK: its sender counts as originator, and the other end's ACK is missing.
    assert!(walk(&[(a, SYN | ACK), (a, SYN | ACK)]).is_handshake());
    assert_eq!(walk(&[(a, SYN | ACK), (b, ACK)]), Established);
}
