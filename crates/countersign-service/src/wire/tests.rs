use super::*;

fn code_of<T>(result: Result<T, Problem>) -> &'static str {
    result.map_or_else(|problem| problem.code(), |_| "read")
}

#[test]
fn a_request_is_read_as_it_is_written() {
    let text =
        br#" {"profile":"access","sub":"a\u0064a","aud":["x","y"],"scope":"r w","ttl":60,"alg":"ES256","key_bits":2048,
        "claims":{"n":1.50,"t":"a\"b","o":{"k":[ 1 ]}}} "#;
    let wanted = Request::new("access").subject("ada").audience("x").audience("y").scope("r").scope("w");
    let wanted = wanted.lifetime(Duration::from_secs(60)).algorithm(Algorithm::Es256).rsa_bits(2_048);
    let wanted = wanted.claim("n", "1.50").claim("t", "\"a\\\"b\"").claim("o", "{\"k\":[ 1 ]}");
    assert!(request(text).unwrap() == wanted);
    let thumbprint = "0".repeat(43);
    let text = format!("{{\"profile\":\"p\",\"nbf_delay\":5,\"cnf\":{{\"x5t\\u0023S256\":\"{thumbprint}\"}}}}");
    let bound = Request::new("p").not_before(Duration::from_secs(5));
    let bound = bound.confirmation(Confirmation::Certificate(thumbprint.into()));
    assert!(request(text.as_bytes()).unwrap() == bound);
    assert!(request(br#"{"profile":"p","aud":"x","scope":""}"#).unwrap() == Request::new("p").audience("x"));
}

#[test]
fn a_number_without_a_fraction_is_whole_as_json_schema_has_it() {
    for ttl in ["60", "60.0", "60.000"] {
        let text = format!("{{\"profile\":\"p\",\"ttl\":{ttl}}}");
        assert!(request(text.as_bytes()).unwrap() == Request::new("p").lifetime(Duration::from_secs(60)), "{ttl}");
    }
}

#[test]
fn whatever_is_out_of_the_ordinary_is_refused() {
    let cnf = |jkt: &str| format!("{{\"profile\":\"p\",\"cnf\":{{\"jkt\":\"{jkt}\"}}}}");
    assert!(request(cnf(&"0".repeat(43)).as_bytes()).is_ok());
    let deep = format!("{{\"profile\":\"p\",\"claims\":{}1{}}}", "{\"a\":".repeat(70), "}".repeat(70));
    let many = format!("{{\"profile\":\"p\",\"aud\":[{}]}}", vec!["\"a\""; 257].join(","));
    let scopes = format!("{{\"profile\":\"p\",\"scope\":\"{}\"}}", vec!["a"; 257].join(" "));
    let claims: Vec<_> = (0..257).map(|n| format!("\"c{n}\":1")).collect();
    let claims = |count: usize| format!("{{\"profile\":\"p\",\"claims\":{{{}}}}}", claims[..count].join(","));
    assert_eq!(code_of(request(claims(256).as_bytes())), "read");
    for text in [
        "",
        "[]",
        "null",
        "{}",
        "{\"profile\":1}",
        "{\"profile\":null}",
        "{\"profile\":\"\"}",
        "{\"profile\":\"p\"} x",
        "{\"profile\":\"p\",\"profile\":\"p\"}",
        "{\"profile\":\"p\",\"\\u0070rofile\":\"p\"}",
        "{\"profile\":\"p\",\"cnf\":{}}",
        "{\"profile\":\"p\",\"cnf\":null}",
        "{\"profile\":\"p\",\"cnf\":\"jkt\"}",
        "{\"profile\":\"p\",\"cnf\":{\"kid\":\"a\"}}",
        "{\"profile\":\"p\",\"cnf\":{\"jkt\":1}}",
        "{\"profile\":\"p\",\"cnf\":{\"jkt\":\"AAAA\"}}",
        &cnf(&"0".repeat(42)),
        &cnf(&"0".repeat(44)),
        &cnf(&("0".repeat(42) + "1")),
        &cnf(&("0".repeat(42) + "+")),
        &cnf(&("0".repeat(43) + "=")),
        &cnf(&("0".repeat(43) + "\",\"x5t#S256\":\"" + &"0".repeat(43))),
        &cnf(&("0".repeat(43) + "\",\"jkt\":\"" + &"0".repeat(43))),
        "{\"profile\":\"p\",\"nbf_delay\":0}",
        "{\"profile\":\"p\",\"nbf_delay\":-1}",
        "{\"profile\":\"p\",\"nbf_delay\":\"1\"}",
        "{\"profile\":\"p\",\"sub\":\"\"}",
        "{\"profile\":\"p\",\"sub\":\"a\\nb\"}",
        "{\"profile\":\"p\",\"sub\":\"\\u0000\"}",
        "{\"profile\":\"p\",\"aud\":[1]}",
        "{\"profile\":\"p\",\"aud\":[\"\"]}",
        "{\"profile\":\"p\",\"aud\":{}}",
        "{\"profile\":\"p\",\"scope\":[\"r\"]}",
        "{\"profile\":\"p\",\"scope\":\"r  w\"}",
        "{\"profile\":\"p\",\"scope\":\" r\"}",
        "{\"profile\":\"p\",\"scope\":\"r\\tw\"}",
        "{\"profile\":\"p\",\"ttl\":0}",
        "{\"profile\":\"p\",\"ttl\":-1}",
        "{\"profile\":\"p\",\"ttl\":1.5}",
        "{\"profile\":\"p\",\"ttl\":0.0}",
        "{\"profile\":\"p\",\"ttl\":4294967295.0000000001}",
        "{\"profile\":\"p\",\"ttl\":\"60\"}",
        "{\"profile\":\"p\",\"ttl\":4294967296}",
        "{\"profile\":\"p\",\"ttl\":1e9}",
        "{\"profile\":\"p\",\"alg\":\"none\"}",
        "{\"profile\":\"p\",\"alg\":\"es256\"}",
        "{\"profile\":\"p\",\"key_bits\":\"2048\"}",
        "{\"profile\":\"p\",\"claims\":[]}",
        "{\"profile\":\"p\",\"claims\":null}",
        "{\"profile\":\"p\",\"claims\":\"{}\"}",
        "{\"profile\":\"p\",\"claims\":{\"a\":{\"b\":1,\"b\":2}}}",
        &deep,
        &many,
        &scopes,
        &claims(257),
    ] {
        assert_eq!(code_of(request(text.as_bytes())), "invalid_request", "{text}");
    }
    assert_eq!(code_of(request(b"{\"profile\":\"\xff\"}")), "invalid_request");
}

#[test]
fn of_a_batch_each_request_is_read_for_itself() {
    let read = batch(br#"{"requests":[{"profile":"a"},7,{"profile":"b","x":1},"\u0022",{"profile":"c"}]}"#).unwrap();
    let codes: Vec<_> = read.into_iter().map(code_of).collect();
    assert_eq!(codes, ["read", "invalid_request", "invalid_request", "invalid_request", "read"]);
    let of = |count: usize| format!("{{\"requests\":[{}]}}", vec!["{\"profile\":\"a\"}"; count].join(","));
    assert_eq!(batch(of(MAX_BATCH).as_bytes()).unwrap().len(), MAX_BATCH);
    for text in [&*of(0), &of(MAX_BATCH + 1), "{}", "{\"requests\":{}}", "{\"requests\":[],\"x\":1}", "[]"] {
        assert_eq!(code_of(batch(text.as_bytes())), "invalid_request", "{text}");
    }
}
