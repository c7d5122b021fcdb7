//! Requests: who is let in, what is answered.

use super::support::{Socket, bearer, call, request};
use crate::{
    daemon::testing::{Kernel, TOKEN, TestDaemon},
    server::{
        client::{Client, ClientError},
        listen::{ListenError, bind_tcp},
    },
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

/// Method, path, body; then status, code, and a word of the message.
type Case = (Method, &'static str, Option<Value>, u16, &'static str, &'static str);

const POLICY: &str = "# guarded\ndefault in drop\nrule web allow in tcp to port 80 # the shop\nrule dns allow in udp to port 53\n";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_token() {
    let daemon = TestDaemon::start(POLICY).await;
    let get = async |headers: &[(&str, &str)]| {
        request(&daemon, Method::GET, "/api/v1/status", headers, None).await
    };
    for headers in [
        &[][..],
        &[("authorization", "Bearer 00")],
        &[("authorization", "Basic x")],
        &[("cookie", "sluice-1=x")],
    ] {
        let answer = get(headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{headers:?}");
        assert_eq!(answer.body["error"]["code"], "unauthorized");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let answer = get(&[("authorization", &bearer())]).await;
    assert_eq!((answer.status, &answer.body["rules"]), (StatusCode::OK, &json!(2)));
    assert_eq!(Socket::open_with(&daemon, &[]).await.err(), Some(StatusCode::UNAUTHORIZED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_and_out() {
    let daemon = TestDaemon::start(POLICY).await;
    let origin = format!("http://{}", daemon.address);
    let login = async |token: &str| {
        let body = Some(json!({"token": token}));
        request(&daemon, Method::POST, "/api/v1/login", &[("origin", &origin)], body).await
    };
    assert_eq!(login("wrong").await.status, StatusCode::UNAUTHORIZED);
    let answer = login(TOKEN).await;
    assert_eq!(answer.status, StatusCode::OK);
    let cookie = answer.headers["set-cookie"]
        .to_str()
        .expect("text")
        .split(';')
        .next()
        .expect("a cookie")
        .to_owned();
    assert!(!cookie.contains(TOKEN));
    let with = [("cookie", cookie.as_str()), ("origin", origin.as_str())];
    assert_eq!(
        request(&daemon, Method::GET, "/api/v1/stats", &with[..1], None).await.status,
        StatusCode::OK
    );
    let mut socket = Socket::open_with(&daemon, &with).await.expect("let in");
    assert_eq!(
        Socket::open_with(&daemon, &with[..1]).await.err(),
        Some(StatusCode::FORBIDDEN),
        "no Origin"
    );
    let reset = async |headers: &[(&str, &str)]| {
        request(&daemon, Method::POST, "/api/v1/counters/reset", headers, None).await.status
    };
    assert_eq!(reset(&with[..1]).await, StatusCode::FORBIDDEN, "no Origin");
    assert_eq!(reset(&with).await, StatusCode::OK);
    assert_eq!(
        request(&daemon, Method::POST, "/api/v1/logout", &with, None).await.status,
        StatusCode::OK
    );
    assert_eq!(socket.closed().await, 4001, "its WebSocket ends with it");
    assert_eq!(reset(&with).await, StatusCode::UNAUTHORIZED);
    for _ in 0..6 {
        login("wrong").await;
    }
    let answer = login("wrong").await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("too-many-attempts"))
    );
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(login(TOKEN).await.status, StatusCode::OK, "the right one isn't locked out");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_pages_and_names_are_refused() {
    let daemon = TestDaemon::start(POLICY).await;
    let token = bearer();
    let answer = request(&daemon, Method::GET, "/", &[("host", "evil.example")], None).await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (StatusCode::FORBIDDEN, &json!("bad-host"))
    );
    let headers = [("authorization", token.as_str()), ("origin", "http://evil.example")];
    let answer = request(&daemon, Method::GET, "/api/v1/status", &headers, None).await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (StatusCode::FORBIDDEN, &json!("bad-origin"))
    );
    assert_eq!(answer.body["error"]["details"]["seen"], "http://evil.example");
    assert_eq!(Socket::open_with(&daemon, &headers).await.err(), Some(StatusCode::FORBIDDEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_headers_that_browsers_obey() {
    let daemon = TestDaemon::start(POLICY).await;
    for path in ["/", "/nothing", "/api/v1/status", "/api/v1/nothing"] {
        let answer = request(&daemon, Method::GET, path, &[], None).await;
        let policy = answer.headers["content-security-policy"].to_str().expect("text");
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers.contains_key("cache-control"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_say_what_is_wrong() {
    let daemon = TestDaemon::start(POLICY).await;
    let cases: [Case; 12] = [
        (Method::GET, "/api/v1/nothing", None, 404, "not-found", "/api/v1/nothing"),
        (Method::PUT, "/api/v1/status", None, 405, "method-not-allowed", "PUT"),
        (Method::GET, "/api/v1/flows?filter=prot%3Dtcp", None, 400, "bad-filter", "prot"),
        (Method::GET, "/api/v1/flows?limit=many", None, 400, "bad-request", "many"),
        (Method::GET, "/api/v1/flows?sort=colour", None, 400, "bad-request", "colour"),
        (Method::GET, "/api/v1/flows?colour=red", None, 400, "bad-request", "colour"),
        (Method::POST, "/api/v1/policy/check", Some(json!({"txt": ""})), 400, "bad-request", "txt"),
        (Method::POST, "/api/v1/policy/check", Some(json!([])), 400, "bad-request", "object"),
        (
            Method::POST,
            "/api/v1/policy/check",
            Some(json!({"text": "rule a allow in tpc"})),
            422,
            "policy-invalid",
            "error",
        ),
        (
            Method::POST,
            "/api/v1/rules",
            Some(json!({"text": "rule a allow", "position": 1, "before": "web"})),
            400,
            "bad-request",
            "only one",
        ),
        (Method::POST, "/api/v1/rules/web/move", Some(json!({})), 400, "bad-request", "where to"),
        (Method::DELETE, "/api/v1/rules/nobody", None, 404, "no-such-rule", "nobody"),
    ];
    for (method, path, body, status, code, word) in cases {
        let answer = call(&daemon, method, path, body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["error"]["code"]),
            (status, &json!(code)),
            "{path}: {}",
            answer.body
        );
        let message = answer.body["error"]["message"].as_str().expect("a message");
        assert!(message.contains(word), "{path}: {message}");
    }
    let large = json!({"text": "#".repeat(33 << 20)});
    let answer = call(&daemon, Method::POST, "/api/v1/policy/check", Some(large)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_edited_and_the_file_keeps_its_comments() {
    let daemon = TestDaemon::start(POLICY).await;
    let file = || std::fs::read_to_string(daemon.dir.join("policy")).expect("the policy file");
    let add = json!({"text": "rule ssh allow in tcp to port 22", "position": 1});
    let answer = call(&daemon, Method::POST, "/api/v1/rules", Some(add)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(
        (&answer.body["generation"], &answer.body["changes"][0]["kind"]),
        (&json!(2), &json!("added"))
    );
    let disable = Some(json!({"base_generation": 2}));
    assert_eq!(
        call(&daemon, Method::POST, "/api/v1/rules/web/disable", disable).await.status,
        StatusCode::OK
    );
    assert_eq!(
        call(&daemon, Method::POST, "/api/v1/rules/dns/move", Some(json!({"before": "ssh"})))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        file(),
        "# guarded\ndefault in drop\nrule dns allow in udp to port 53\nrule ssh allow in tcp to port 22\n\
         disabled rule web allow in tcp to port 80 # the shop\n"
    );
    let rules = call(&daemon, Method::GET, "/api/v1/rules", None).await.body;
    let names: Vec<&str> = rules["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["dns", "ssh", "web", "default in", "default out"]);
    assert_eq!((&rules["generation"], &rules["rows"][2]["enabled"]), (&json!(4), &json!(false)));

    let late = call(&daemon, Method::DELETE, "/api/v1/rules/dns?base_generation=2", None).await;
    assert_eq!(
        (late.status, &late.body["error"]["details"]["generation"]),
        (StatusCode::CONFLICT, &json!(4))
    );
    let dry = call(&daemon, Method::DELETE, "/api/v1/rules/dns?dry_run=true", None).await;
    assert_eq!((&dry.body["dry_run"], &dry.body["generation"]), (&json!(true), &json!(4)));
    assert!(file().contains("rule dns"));
    assert_eq!(
        call(&daemon, Method::DELETE, "/api/v1/rules/dns", None).await.status,
        StatusCode::OK
    );
    assert!(!file().contains("rule dns"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_would_lock_himself_out_has_to_say_so_twice() {
    let daemon = TestDaemon::start("rule ssh allow in tcp to port 22\n").await;
    let mut body =
        json!({"text": "default in drop\n", "ssh_connection": "192.0.2.1 50000 192.0.2.2 22"});
    let refused = call(&daemon, Method::POST, "/api/v1/policy/apply", Some(body.clone())).await;
    assert_eq!(
        (refused.status, &refused.body["error"]["code"]),
        (StatusCode::CONFLICT, &json!("lock-out"))
    );
    assert!(
        refused.body["error"]["details"]["connection"]
            .as_str()
            .is_some_and(|text| text.contains("192.0.2.1"))
    );
    assert_eq!(daemon.kernel().generation, 1);
    body["force"] = true.into();
    let forced = call(&daemon, Method::POST, "/api/v1/policy/apply", Some(body)).await;
    assert_eq!(
        (forced.status, &forced.body["generation"]),
        (StatusCode::OK, &json!(2)),
        "{}",
        forced.body
    );
    assert_eq!(forced.body["warnings"][0]["code"], "ssh-lockout");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_refuses_changes_nothing() {
    let daemon = TestDaemon::start(POLICY).await;
    daemon.kernel().refuses = Some("no room: free some memory".into());
    let answer = call(&daemon, Method::DELETE, "/api/v1/rules/web", None).await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("datapath"))
    );
    assert_eq!(std::fs::read_to_string(daemon.dir.join("policy")).expect("read"), POLICY);
    let policy = call(&daemon, Method::GET, "/api/v1/policy", None).await.body;
    assert_eq!((&policy["text"], &policy["generation"]), (&json!(POLICY), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_socket_asks_the_kernel_who_is_there() {
    let daemon = TestDaemon::start(POLICY).await;
    let client = Client::new(daemon.dir.join("sock"));
    let answer: Result<Value, ClientError> = client.get("/api/v1/status").await;
    // SAFETY: geteuid takes nothing and can't fail.
    if unsafe { libc::geteuid() } == 0 {
        assert_eq!(answer.expect("root may")["rules"], 2);
    } else {
        assert!(matches!(answer, Err(ClientError::Refused(body)) if body.code == "forbidden"));
    }
    let nobody: Result<Value, ClientError> =
        Client::new(daemon.dir.join("nothing")).get("/api/v1/status").await;
    assert!(matches!(nobody, Err(ClientError::Unreachable { .. })));
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    for address in ["0.0.0.0:0", "192.0.2.1:8470", "[::]:0"] {
        let error = bind_tcp(address.parse().expect("an address")).await.expect_err(address);
        assert!(matches!(error, ListenError::NotLoopback(_)));
        assert!(error.to_string().contains("only loopback"), "{error}");
    }
    assert!(bind_tcp("127.0.0.1:0".parse().expect("an address")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_killed_by_filter() {
    let daemon = TestDaemon::start(POLICY).await;
    daemon.kernel().flows = (1..=5).map(|id| Kernel::flow(id, 10)).collect();
    let kill = async |body: Value| {
        let answer = call(&daemon, Method::POST, "/api/v1/flows/kill", Some(body)).await;
        (answer.status, answer.body)
    };
    for filter in ["", "  "] {
        let (status, body) = kill(json!({"filter": filter})).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!("bad-request"))
        );
    }
    let (status, body) = kill(json!({"filter": "hits=1"})).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("bad-filter")));
    assert_eq!(daemon.kernel().flows.len(), 5);

    let (status, body) = kill(json!({"filter": "sport>3", "dry_run": true, "limit": 1})).await;
    assert_eq!(
        (status, &body["total"], &body["dry_run"]),
        (StatusCode::OK, &json!(2), &json!(true))
    );
    assert_eq!((&body["rows"][0]["sport"], &body["rows"][1]), (&json!(4), &Value::Null));
    assert_eq!((&body["rows"][0]["ended"], daemon.kernel().flows.len()), (&Value::Null, 5));

    let (_, body) = kill(json!({"filter": "sport>3"})).await;
    assert_eq!((&body["total"], &body["rows"][1]["ended"]), (&json!(2), &json!("killed")));
    assert_eq!(daemon.kernel().flows.len(), 3);
    let path = "/api/v1/events?filter=reason=killed";
    let told = call(&daemon, Method::GET, path, None).await.body;
    let told: Vec<_> =
        told["rows"].as_array().into_iter().flatten().map(|row| row["sport"].clone()).collect();
    assert_eq!(told, [json!(4), json!(5)]);
}
