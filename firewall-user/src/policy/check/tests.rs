use super::*;
use crate::policy::parse;

fn codes(text: &str, context: &CheckContext) -> Vec<(String, u32, String)> {
    let policy = parse(text, "test").unwrap_or_else(|e| panic!("{e}"));
    check(&policy, context).into_iter().map(|d| (d.code.into_owned(), d.line, d.message)).collect()
}

fn plain(text: &str) -> Vec<(String, u32)> {
    codes(text, &CheckContext::default()).into_iter().map(|(c, l, _)| (c, l)).collect()
}

#[test]
fn covered_rules_are_told_and_others_are_not() {
    let shadowed = |text: &str| plain(text).iter().any(|(c, _)| c == "shadowed-rule");
    for yes in [
        "rule a allow\nrule b drop in tcp",
        "rule a allow in tcp to port 1-100\nrule b drop in tcp to port { 22, 80 } from 10.0.0.0/8 log",
        "rule a drop from 10.0.0.0/8\nrule b drop from 10.1.0.0/16 to 192.0.2.1",
        "rule a drop in\nrule b allow out\nrule c drop udp",
        "rule a drop ipv4\nrule b drop ipv6\nrule c allow tcp to port 22",
        "rule a drop tcp to port 0-99\nrule b allow tcp to port 100-65535\nrule c reject tcp from 10.0.0.1",
        "rule a drop from not 10.0.0.0/8\nrule b drop from 192.0.2.0/24",
        "rule a drop on not lo\nrule b drop on eth0",
        "rule a drop in icmp\nrule b allow in icmp type echo-request",
        "rule a drop tcp flags syn\nrule b drop tcp flags syn,ack",
        "rule a drop tcp to port not 22\nrule b drop tcp to port 22\nrule c allow tcp",
        "set s = { 10.0.0.0/9, 10.128.0.0/9 }\nrule a drop from @s\nrule b drop from 10.0.0.0/8",
    ] {
        assert!(shadowed(yes), "{yes}");
    }
    for no in [
        "rule a count\nrule b drop in tcp",
        "disabled rule a allow\nrule b drop in tcp",
        "rule a allow in\nrule b drop tcp",
        "rule a allow tcp to port 22\nrule b drop tcp from port 22",
        "rule a drop from 10.0.0.0/8\nrule b drop from 10.0.0.0/7",
        "rule a drop ipv4\nrule b drop tcp",
        "rule a drop tcp to port 0-99\nrule b allow tcp to port 101-65535\nrule c reject tcp",
        "rule a drop on eth0\nrule b drop on { eth0, eth1 }",
        "rule a drop tcp to port 1-65535\nrule b drop to 10.0.0.1",
        "rule a drop icmp type 8 code 0\nrule b drop icmp type 8",
        "rule a drop tcp flags syn,ack\nrule b drop tcp flags syn",
        "rule a drop state new\nrule b drop state new,invalid",
        "rule a drop icmp to port 0-65535".replace("icmp", "udp").as_str(),
    ] {
        assert!(!shadowed(no), "{no}");
    }
    let found =
        codes("rule a drop in\nrule b allow out\nrule c drop udp", &CheckContext::default());
    assert_eq!(
        found[0].2,
        "rule `c` can never match: `a`, `b` above together take all its packets"
    );
}

/// What nine thousand rules that overlap with nothing cost was all that there was to spend: those behind were looked at
/// no more.
#[test]
fn many_rules_leave_time_for_the_last() {
    let mut text = String::new();
    for i in 0..9_000 {
        let (a, b) = (i / 250, i % 250);
        text.push_str(&format!(
            "rule r{i} drop tcp from 10.{a}.{b}.0/25 to 192.0.2.{b} port {}\n",
            1 + i % 3_000
        ));
    }
    text.push_str("rule last drop tcp from 10.35.248.1 to 192.0.2.248 port 3000\n");
    text.push_str("rule other drop tcp from 10.35.248.1 to 192.0.2.248 port 2999\n");
    text.push_str("rule within drop tcp from 10.35.249.7 to 192.0.2.249 port 3000\n");
    let shadowed = |line| ("shadowed-rule".to_owned(), line);
    assert_eq!(plain(&text), [shadowed(9_002), shadowed(9_003)]);
}

#[test]
fn contradictions_say_why() {
    for (text, why) in [
        ("rule a drop from 10.0.0.1 to 2001:db8::1", "it asks for packets from IPv4 to IPv6"),
        (
            "rule a drop icmp from 2001:db8::1",
            "`icmp` is of IPv4, and it asks for IPv6: did you mean `icmpv6`?",
        ),
        (
            "rule a drop icmpv6 to 10.0.0.1",
            "`icmpv6` is of IPv6, and it asks for IPv4: did you mean `icmp`?",
        ),
        (
            "rule a drop ipv6 from 10.0.0.1",
            "it says `ipv6`, and its addresses are of the other family",
        ),
        ("set none = { }\nrule a drop from @none", "its list of addresses is empty"),
        ("rule a drop tcp to port not 0-65535", "what it asks for leaves nothing over"),
    ] {
        let found = codes(text, &CheckContext::default());
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].2.ends_with(why), "{text}: {found:?}");
    }
}

#[test]
fn what_nobody_uses_and_what_never_comes() {
    assert_eq!(
        plain(
            "set a = { 1 }\nset b = { @a }\ninterface wan = eth0\ninterface lan = lan\nrule x drop on lan"
        ),
        [("unused-set".to_owned(), 2), ("unused-interface".to_owned(), 3)]
    );
    assert_eq!(plain("rule a drop state related"), [("related-passes".to_owned(), 1)]);
    assert_eq!(plain("rule a drop icmpv6 type { 135, 136 }"), [("discovery-passes".to_owned(), 1)]);
    let cut = "default in drop\nrule a allow in tcp to port 22 state new";
    assert_eq!(plain(cut), [("state-cuts-flows".to_owned(), 2)]);
    assert_eq!(plain(&format!("{cut}\nrule b allow state established")), []);
    assert_eq!(plain(&cut.replace("default in drop", "")), []);
    assert_eq!(plain(&cut.replace("new", "new,established")), []);
}

#[test]
fn interfaces_that_are_not_here() {
    let context = CheckContext {
        interfaces: Some(vec!["lo".into(), "eth0".into()]),
        ..CheckContext::default()
    };
    let found = codes(
        "interface wan = { eth0, eth1 }\nrule a drop on wna\nrule b drop on wan\nrule c drop on lo",
        &context,
    );
    assert_eq!(
        found.iter().map(|(c, l, _)| (c.as_str(), *l)).collect::<Vec<_>>(),
        [("unknown-interface", 1), ("unknown-interface", 2)]
    );
}

#[test]
fn cookies_are_for_the_machine_itself() {
    let own = ["192.0.2.1", "2001:db8::1"].map(|a| a.parse().unwrap()).to_vec();
    let context = CheckContext { addresses: Some(own), ..CheckContext::default() };
    let told = |to: &str| {
        let text = format!("set all = {{ 192.0.2.0/24 }}\nrule a allow in tcp {to} syn-cookies");
        codes(&text, &context).iter().any(|(code, ..)| code == "cookies-forwarded")
    };
    for forwarded in [
        "to 192.0.2.2 port 80",
        "to { 10.0.0.0/8, fd00::/8 }",
        "to not { 192.0.2.0/24, 2001:db8::/32 }",
    ] {
        assert!(told(forwarded), "{forwarded}");
    }
    for local in
        ["to port 80", "to @all", "to not 192.0.2.1", "to { 10.0.0.1, 2001:db8::1 }", "to any"]
    {
        assert!(!told(local), "{local}");
    }
    let unknown = plain("rule a allow in tcp to 10.0.0.1 syn-cookies");
    assert_eq!(unknown, [], "what isn't known isn't checked");
}

#[test]
fn the_operators_session_is_tried() {
    let ssh = SshPeer::from_ssh_connection("10.0.0.9 51000 192.0.2.1 22").unwrap();
    let on = |iface: Option<&str>| CheckContext {
        ssh: Some(SshPeer { iface: iface.map(str::to_owned), ..ssh.clone() }),
        ..CheckContext::default()
    };
    let lockout = |text: &str, iface: Option<&str>| {
        codes(text, &on(iface))
            .into_iter()
            .find(|(c, ..)| c == SSH_LOCKOUT)
            .map(|(_, line, message)| (line, message))
    };
    let (line, message) =
        lockout("# x\n  default in drop # y\nrule web allow in tcp to port 443", None).unwrap();
    assert_eq!(line, 2);
    assert_eq!(
        message,
        "this would cut off your own ssh session (10.0.0.9 port 51000 to 192.0.2.1 port 22): \
         no rule lets it in, and `default in` is drop"
    );
    let (line, message) = lockout("rule a reject tcp from 10.0.0.0/8", None).unwrap();
    assert!(line == 1 && message.ends_with("rule `a` would reject it"), "{message}");
    assert_eq!(lockout("", None), None);
    assert_eq!(
        lockout("default in drop\nrule ssh allow in tcp from 10.0.0.9 to port 22", None),
        None
    );
    let by_iface = "default in drop\nrule ssh allow in on eth0 tcp to port 22";
    assert_eq!(lockout(by_iface, None), None);
    assert_eq!(lockout(by_iface, Some("eth0")), None);
    assert!(lockout(by_iface, Some("eth1")).is_some());
    let only_live = "default in drop\nrule live allow state established";
    assert!(
        lockout(only_live, None)
            .unwrap()
            .1
            .starts_with("this would keep you from logging in again")
    );
    assert!(lockout("default in drop\nrule ssh allow in tcp to port 22 state new", None).is_some());
    let mapped = SshPeer::from_ssh_connection("::ffff:10.0.0.9 51000 ::ffff:192.0.2.1 22").unwrap();
    assert_eq!(mapped, ssh);
    let zoned = SshPeer::from_ssh_connection("fe80::1%eth0 51000 fe80::2%eth0 22").unwrap();
    assert_eq!(zoned.iface.as_deref(), Some("eth0"));
    assert_eq!(SshPeer::from_ssh_connection("10.0.0.9 51000"), None);
}

/// Warnings about translations, by code and line, where the rules let everything in.
#[test]
fn translations_that_never_happen() {
    let of = |text: &str| {
        plain(text).into_iter().map(|(code, line)| format!("{code} {line}")).collect::<Vec<_>>()
    };
    let never: [&str; 0] = [];
    for (text, found) in [
        (
            "nat a masquerade on wan\nnat b source on wan tcp from 10.0.0.0/8 => 203.0.113.5",
            "shadowed-nat 2",
        ),
        (
            "nat a masquerade on wan from 10.0.0.0/8\nnat b static on wan 10.0.0.8/29 <=> 203.0.113.8/29",
            "shadowed-nat 2",
        ),
        (
            "nat a destination on wan tcp to port 1-100 => 10.0.0.5\nnat b destination on wan tcp to port 80 => 10.0.0.6",
            "shadowed-nat 2",
        ),
        (
            "nat a destination on wan tcp to 203.0.113.5 port 80 => 10.0.0.5 hairpin\nnat b redirect on lan tcp to 203.0.113.5 port 80 => port 81",
            "shadowed-nat 2",
        ),
        ("set none = { }\nnat a masquerade on wan from @none", "never-matches 2"),
        ("set six = { 2001:db8::/32 }\nnat a masquerade on wan from @six", "never-matches 2"),
        (
            "interface lan = eth1\nset used = { 10.0.0.0/8 }\nnat a masquerade on wan from @used",
            "unused-interface 1",
        ),
    ] {
        assert_eq!(of(text), [found], "{text}");
    }
    for text in [
        "nat a masquerade on wan from 10.0.0.0/8\nnat b masquerade on wan",
        "nat a masquerade on wan\nnat b masquerade on wan2",
        "disabled nat a masquerade on wan\nnat b masquerade on wan",
        "nat a masquerade on wan\nnat b redirect on wan tcp to port 80 => port 81",
        "interface lan = eth1\nset dns = { 53 }\nnat a redirect on lan udp to port @dns => port 54",
    ] {
        assert_eq!(of(text), never, "{text}");
    }
}

#[test]
fn rules_see_where_translated_packets_go() {
    let nat = "default in drop\nnat web destination on wan tcp to 203.0.113.5 port 80 => 10.0.0.5 port 8080\n";
    let found = |rule: &str| {
        let mut found = codes(&format!("{nat}{rule}"), &CheckContext::default());
        found.iter_mut().map(|(code, line, _)| format!("{code} {line}")).collect::<Vec<_>>()
    };
    assert_eq!(found(""), ["nat-not-let-in 2"]);
    assert_eq!(found("rule a drop in to 10.0.0.5"), ["nat-not-let-in 2"]);
    assert_eq!(found("disabled rule a allow in to 10.0.0.5"), ["nat-not-let-in 2"]);
    assert_eq!(found("rule a allow in tcp to 10.0.0.5 port 80"), ["nat-not-let-in 2"]);
    // The rule asks for what is gone by then.
    assert_eq!(
        found("rule a allow in on wan tcp to 203.0.113.5 port 80"),
        ["nat-not-let-in 2", "nat-hides-packets 3"]
    );
    for good in [
        "rule a allow in tcp to 10.0.0.5 port 8080",
        "rule a allow in on wan",
        "rule a allow to not 192.0.2.1",
    ] {
        assert_eq!(found(good), [""; 0], "{good}");
    }
    let let_in = "rule in allow in to 10.0.0.5\n";
    // At other interfaces, other ports or other addresses the rule still has something to do.
    for good in [
        "rule a drop in tcp to 203.0.113.5 port 80",
        "rule a drop in on wan tcp to 203.0.113.5 port { 80, 81 }",
        "rule a drop in on wan tcp to { 203.0.113.5, 203.0.113.6 } port 80",
        "rule a drop out on wan tcp to 203.0.113.5 port 80",
    ] {
        assert_eq!(found(&format!("{let_in}{good}")), [""; 0], "{good}");
    }
}

#[test]
fn a_translation_may_send_the_operator_elsewhere() {
    let ssh = SshPeer::from_ssh_connection("198.51.100.9 51000 203.0.113.5 22").unwrap();
    let lockout = |text: &str, iface: Option<&str>| {
        let ssh = SshPeer { iface: iface.map(str::to_owned), ..ssh.clone() };
        let context = CheckContext { ssh: Some(ssh), ..CheckContext::default() };
        codes(text, &context).into_iter().find(|(c, ..)| c == SSH_LOCKOUT).map(|(_, l, m)| (l, m))
    };
    let nat = "rule all allow\nnat ssh destination on eth0 tcp to port 22 => 10.0.0.5";
    let (line, message) = lockout(nat, Some("eth0")).unwrap();
    assert!(line == 2 && message.ends_with("nat `ssh` sends it elsewhere"), "{message}");
    assert_eq!(lockout(nat, Some("eth1")), None);
    assert_eq!(lockout(nat, None), None);
    assert_eq!(
        lockout(&format!("{nat} port 22").replace("10.0.0.5", "203.0.113.5"), Some("eth0")),
        None
    );
    let way_in = format!("{nat}\nnat back redirect on eth0 tcp to port 2222 => port 22");
    assert_eq!(lockout(&way_in, Some("eth0")), None);
    assert_eq!(lockout(&nat.replace("nat ssh", "disabled nat ssh"), Some("eth0")), None);
}

#[test]
fn a_rule_by_owner_may_lock_out_too() {
    let context = CheckContext {
        ssh: SshPeer::from_ssh_connection("10.0.0.9 51000 10.0.0.1 22"),
        ..CheckContext::default()
    };
    let told = |text: &str| codes(text, &context).iter().any(|(code, ..)| code == SSH_LOCKOUT);
    for yes in [
        "rule a drop in tcp process sshd",
        "rule a reject in exe /usr/sbin/sshd",
        "rule a drop in tcp to port 22 user any",
        "rule a drop process any",
        "rule a drop in tcp unit not nginx",
        "rule a allow in tcp exe not /usr/bin/x\nrule b drop in user root",
    ] {
        assert!(told(yes), "{yes}");
    }
    for no in [
        "rule a drop out tcp process sshd",
        "rule a drop in tcp to port 80 process sshd",
        "rule a drop in tcp from 10.1.0.0/16 process any",
        "rule a drop in tcp process { curl, wget }",
        "rule a drop in tcp exe not /usr/sbin/sshd",
        "rule ssh allow in tcp to port 22 process sshd\nrule a drop in process any",
        "disabled rule a drop in process any",
    ] {
        assert!(!told(no), "{no}");
    }
}
