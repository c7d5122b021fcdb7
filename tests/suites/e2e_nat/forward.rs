//! From outside to inside: port forwards, one to one, hairpin, redirect; and FTP, which has addresses in its
//! payload.

use super::{SILENCE, SOON, curl, noise, setup};
use sluice_tests::lab::{HttpServer, NatLab, TcpEcho, UdpEcho, udp_exchange};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

const POLICY: &str = "
interface wan = wan0
interface lan = lan0
default in drop
default out allow
nat web   destination on wan tcp to 203.0.113.1 port 8080 => 10.9.0.2 port 80 hairpin
nat games destination on wan udp to 203.0.113.1 port 27000-27010 => 10.9.0.2 port 7000-7010
nat dns   redirect    on lan udp to port 53 => port 5353
nat one   static      on wan 10.9.0.3/32 <=> 203.0.113.67/32
nat out   masquerade  on wan from 10.9.0.0/24
rule inside allow in on lan
rule web-in allow in on wan tcp to 10.9.0.2 port 80
rule games-in allow in on wan udp to 10.9.0.2 port 7000-7010
rule one-in allow in on wan to 10.9.0.3
";

/// Where an inside web server is reached by its public name.
const WEB: &str = "http://203.0.113.1:8080";

#[test]
fn a_forwarded_port_is_reached_from_outside_and_from_inside() {
    let test = "e2e_nat::forward::a_forwarded_port_is_reached_from_outside_and_from_inside";
    let Some((lab, daemon)) = setup(test, &["curl"], POLICY) else { return };
    let web = HttpServer::start(&lab.a, &format!("{}:80", NatLab::A)).unwrap();
    let page = noise(3_000_000);
    web.put("/page", page.clone());
    let file = daemon.dir.join("page");
    for (who, ns, seen) in [
        ("from outside", &lab.server, NatLab::SERVER),
        // The answers have to come back through the gate, so that it stands in for the client.
        ("from inside", &lab.b, NatLab::GATE),
    ] {
        curl(ns, &format!("-o {} {WEB}/page", file.display())).good();
        assert!(std::fs::read(&file).unwrap() == page, "{who}: what was got is what lies there");
        curl(ns, &format!("-T {} {WEB}/up", file.display())).good();
        assert!(web.get("/up").as_ref() == Some(&page), "{who}: what was put is what was sent");
        let peer = curl(ns, &format!("{WEB}/who")).good();
        assert_eq!(peer.split(':').next(), Some(seen), "{who}: whom the server sees");
    }
    // The server's own host, too: what it sends to its public address comes back to it.
    assert_eq!(curl(&lab.a, &format!("{WEB}/who")).good().split(':').next(), Some(NatLab::GATE));
    let closed = lab.server.connect("203.0.113.1:8081", SILENCE).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::TimedOut, "a port that nobody forwards");
    let rule = daemon.rule("web-in");
    assert_eq!(rule["hits"], 3, "the rule saw the destination inside: {rule}");
}

#[test]
fn a_range_of_ports_is_forwarded_port_by_port() {
    let test = "e2e_nat::forward::a_range_of_ports_is_forwarded_port_by_port";
    let Some((lab, _daemon)) = setup(test, &[], POLICY) else { return };
    let _echoes = [7000, 7005, 7010]
        .map(|port| UdpEcho::start(&lab.a, &format!("{}:{port}", NatLab::A)).unwrap());
    for port in [27_000, 27_005, 27_010] {
        udp_exchange(&lab.server, 0, &format!("203.0.113.1:{port}"), b"play", SOON)
            .unwrap_or_else(|error| panic!("{port}: {error}"));
    }
    // Nobody listens there: the error names the port that was asked for, or the client wouldn't get it.
    let error = udp_exchange(&lab.server, 0, "203.0.113.1:27001", b"play", SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    for port in [26_999, 27_011] {
        let error = udp_exchange(&lab.server, 0, &format!("203.0.113.1:{port}"), b"play", SILENCE)
            .unwrap_err();
        assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "{port} is nobody's");
    }
}

#[test]
fn what_is_redirected_is_answered_by_the_gate() {
    let test = "e2e_nat::forward::what_is_redirected_is_answered_by_the_gate";
    let Some((lab, daemon)) = setup(test, &[], POLICY) else { return };
    let _dns = UdpEcho::start(&lab.gate, "0.0.0.0:5353").unwrap();
    for sport in [31_000, 31_001] {
        // The socket takes an answer from the server's address alone.
        udp_exchange(&lab.a, sport, &format!("{}:53", NatLab::SERVER), b"a name", SOON).unwrap();
    }
    let rows = daemon.flows("dport=53");
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in rows {
        assert_eq!(
            (&row["nat"]["dst"], &row["nat"]["dport"]),
            (&NatLab::GATE.into(), &5353.into())
        );
    }
}

#[test]
fn one_to_one_goes_both_ways() {
    let test = "e2e_nat::forward::one_to_one_goes_both_ways";
    let Some((lab, daemon)) = setup(test, &["curl", "ping"], POLICY) else { return };
    let _outside = HttpServer::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    let _inside = HttpServer::start(&lab.b, &format!("{}:80", NatLab::B)).unwrap();
    let url = format!("--local-port 40123 http://{}/who", NatLab::SERVER);
    assert_eq!(curl(&lab.b, &url).good(), "203.0.113.67:40123", "the port stays");
    let who = curl(&lab.server, "http://203.0.113.67/who").good();
    assert_eq!(who.split(':').next(), Some(NatLab::SERVER), "the client's own address inside");
    assert!(lab.server.ping("203.0.113.67", 2), "pings are forwarded too");
    assert!(lab.b.ping(NatLab::SERVER, 2));
    let error = udp_exchange(&lab.server, 0, "203.0.113.67:999", b"anybody?", SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "the error is the public address's");
    let who = curl(&lab.a, &format!("http://{}/who", NatLab::SERVER)).good();
    assert_eq!(who.split(':').next(), Some(NatLab::PUBLIC), "others are masqueraded");
    assert!(daemon.rule("one-in")["hits"].as_u64() >= Some(3));
}

/// A scripted FTP server on port 21 of `address`, which serves one client one file over passive data connections.
/// `data` is where it listens for them: a client that asks with PASV is told this address.
struct Ftp;

impl Ftp {
    fn start(ns: &sluice_tests::lab::NetNs, address: &str, file: Vec<u8>) -> Self {
        let control = ns.run(|| TcpListener::bind((address, 21))).unwrap();
        let (ns, address) = (ns.clone(), address.to_owned());
        std::thread::spawn(move || {
            for stream in control.incoming().map_while(Result::ok) {
                let listener = ns.run(|| TcpListener::bind((address.as_str(), 0))).unwrap();
                let file = file.clone();
                std::thread::spawn(move || Self::serve(stream, listener, &file));
            }
        });
        Self
    }

    fn serve(mut stream: TcpStream, data: TcpListener, file: &[u8]) -> std::io::Result<()> {
        stream.set_read_timeout(Some(SOON))?;
        let SocketAddr::V4(at) = data.local_addr()? else { return Ok(()) };
        let mut reader = BufReader::new(stream.try_clone()?);
        stream.write_all(b"220 ready\r\n")?;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            let answer = match line.split_whitespace().next().unwrap_or_default() {
                "USER" => "331 a password, too\r\n".into(),
                "PASS" => "230 come in\r\n".into(),
                "PWD" => "257 \"/\"\r\n".into(),
                "TYPE" => "200 yes\r\n".into(),
                "SIZE" => format!("213 {}\r\n", file.len()),
                "PASV" => {
                    let [a, b, c, d] = at.ip().octets();
                    let [high, low] = at.port().to_be_bytes();
                    format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})\r\n")
                }
                "RETR" => {
                    stream.write_all(b"150 here it comes\r\n")?;
                    data.accept()?.0.write_all(file)?;
                    "226 that was it\r\n".into()
                }
                "QUIT" => return stream.write_all(b"221 bye\r\n"),
                _ => "500 no\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes())?;
            line.clear();
        }
        Ok(())
    }
}

#[test]
fn ftp_works_passively_from_inside() {
    let test = "e2e_nat::forward::ftp_works_passively_from_inside";
    let Some((lab, daemon)) = setup(test, &["curl"], POLICY) else { return };
    let file = noise(500_000);
    let _ftp = Ftp::start(&lab.server, NatLab::SERVER, file.clone());
    let got = daemon.dir.join("file");
    let url = format!("--disable-epsv -o {} ftp://{}/file", got.display(), NatLab::SERVER);
    curl(&lab.a, &url).good();
    assert!(std::fs::read(&got).unwrap() == file);
    let rows = daemon.flows(&format!("proto=tcp and dst={}", NatLab::SERVER));
    assert_eq!(rows.len(), 2, "the data connection is a flow of its own: {rows:?}");
    for row in &rows {
        assert_eq!(row["nat"]["src"], NatLab::PUBLIC, "{row}");
    }
}

/// Sluice reads no payload: it doesn't know of a data connection to a server inside, whichever address the
/// server names.
#[test]
fn a_passive_ftp_server_inside_is_refused() {
    let test = "e2e_nat::forward::a_passive_ftp_server_inside_is_refused";
    let policy = POLICY.to_owned()
        + "nat ftp destination on wan tcp to 203.0.113.1 port 21 => 10.9.0.2\n\
           rule ftp-in allow in on wan tcp to 10.9.0.2 port 21\n";
    let Some((lab, daemon)) = setup(test, &["curl"], &policy) else { return };
    let _ftp = Ftp::start(&lab.a, NatLab::A, noise(1000));
    let before = daemon.rule("default in")["hits"].as_u64().unwrap();
    // As clients do: to the address of the control connection, whatever the answer says.
    let url =
        "--disable-epsv --ftp-skip-pasv-ip --connect-timeout 2 -o /dev/null ftp://203.0.113.1/file";
    let said = curl(&lab.server, url);
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(daemon.rule("ftp-in")["hits"], 1, "the control connection is forwarded");
    let refused = daemon.rule("default in")["hits"].as_u64().unwrap() - before;
    assert!(refused > 0, "the data connection was refused, and that is counted");
    let told = daemon.rows(&["events", "verdict=drop"]);
    let data =
        told.iter().filter(|event| event["dst"] == NatLab::PUBLIC && event["rule"] == "default in");
    assert!(data.count() > 0, "and told: {told:?}");
}

/// What has nothing to do with a flow gets in nowhere, though its port is lent to somebody inside.
#[test]
fn strangers_do_not_get_in_through_a_mapping() {
    let test = "e2e_nat::forward::strangers_do_not_get_in_through_a_mapping";
    let Some((lab, daemon)) = setup(test, &["curl"], POLICY) else { return };
    let _echo = TcpEcho::start(&lab.server, &format!("{}:80", NatLab::SERVER)).unwrap();
    let mut stream = lab.a.connect_from(31_000, &format!("{}:80", NatLab::SERVER), SOON).unwrap();
    super::echoes(&mut stream, b"open").unwrap();
    let row = daemon.flows("sport=31000").first().cloned().unwrap();
    let public = row["nat"]["sport"].as_u64().unwrap();
    // The same server from another port, and another host.
    for (who, ns) in [("the server", &lab.server), ("the router", &lab.router)] {
        let error = ns.connect(&format!("203.0.113.1:{public}"), SILENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{who}");
    }
    assert!(daemon.rule("default in")["hits"].as_u64() >= Some(2));
    super::echoes(&mut stream, b"still open").unwrap();
}
